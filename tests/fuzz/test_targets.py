"""The fuzz targets without a fuzzer: their seeds, these cut and mixed, and whatever hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    target, seeds = TARGETS[name]
    for seed in seeds:
        target(seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_seeds_with_a_piece_replaced(name: str, data: st.DataObject) -> None:
    target, seeds = TARGETS[name]
    seed = data.draw(st.sampled_from(seeds))
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, min(len(seed), start + 8)))
    target(seed[:start] + data.draw(st.binary(max_size=8)) + seed[end:])
