from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.scheduling.cost import CostModel
from kniv.server.scheduling.entry import bucket

batches = st.lists(st.tuples(st.integers(1, 2048), st.floats(1e-6, 10)), max_size=100)


@given(batches, st.integers(1, 4096), st.integers(1, 4096))
def test_whatever_is_measured_a_larger_batch_never_seems_quicker(
    seen: list[tuple[int, float]], first: int, second: int
) -> None:
    model = CostModel()
    for tokens, seconds in seen:
        model.observe(tokens, seconds)
    small, large = sorted((first, second))
    assert 0 < model.seconds(small) <= model.seconds(large)


@given(batches, st.floats(1e-4, 1))
def test_what_fits_a_time_takes_no_longer(seen: list[tuple[int, float]], limit: float) -> None:
    model = CostModel()
    for tokens, seconds in seen:
        model.observe(tokens, seconds)
    tokens = model.tokens_within(limit)
    assert tokens == 0 or model.seconds(tokens) <= limit * 1.0001
    assert model.tokens_surely_within(limit) <= tokens


@given(st.floats(0, 0.05), st.floats(1e-6, 1e-3), st.integers(0, 1000))
def test_a_line_is_learnt_within_noise(overhead: float, slope: float, noise: int) -> None:
    model, random = CostModel(), Random(noise)
    for _ in range(300):
        tokens = random.randint(8, 512)
        model.observe(tokens, (overhead + slope * tokens) * random.uniform(0.9, 1.1))
    for tokens in (64, 256, 512):
        assert model.seconds(tokens) == pytest.approx(overhead + slope * tokens, rel=0.15)
    part = model.fixed / (model.fixed + 256)  # of a batch's time that goes to no subword
    assert part == pytest.approx(overhead / (overhead + slope * 256), abs=0.15)


@given(st.floats(1e-3, 0.05), st.floats(1e-6, 1e-3))
def test_from_batches_of_one_size_it_never_hopes_too_much_of_larger_ones(overhead: float, slope: float) -> None:
    model = CostModel()
    for _ in range(100):
        model.observe(24, overhead + slope * 24)
    assert model.seconds(24) == pytest.approx(overhead + slope * 24, rel=0.05)
    assert model.seconds(512) >= 0.95 * (overhead + slope * 512)


def test_a_hiccup_is_not_believed_and_a_lasting_change_is() -> None:
    model = CostModel()
    for _ in range(100):
        model.observe(100, 0.010)
    model.observe(100, 10.0)
    assert model.seconds(100) < 0.012
    for _ in range(300):
        model.observe(100, 0.100)
    assert model.seconds(100) == pytest.approx(0.1, rel=0.1)


@given(st.integers(1, 100_000))
def test_buckets_pad_by_an_eighth_at_most_and_are_few(length: int) -> None:
    assert length <= bucket(length) <= length * 9 / 8 + 0.001
    assert bucket(bucket(length)) == bucket(length)


def test_there_are_forty_buckets_up_to_128() -> None:
    assert len({bucket(length) for length in range(1, 129)}) == 40
