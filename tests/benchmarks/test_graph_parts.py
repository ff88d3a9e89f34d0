"""Operations and weights of the parts are those of the PyTorch model."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from benchmarks.graph.parts import SMALL, Dimensions, parts
from hypothesis import given
from hypothesis import strategies as st

torch: Any = pytest.importorskip("torch", reason="the parts are compared with a PyTorch model")
pytest.importorskip("transformers", reason="the parts are compared with a PyTorch model")

TINY = Dimensions(hidden=256, layers=2, inner=512)
COUNTED = ("encoder projections", "attention products", "relative positions", "feed-forward")


def model(of: Dimensions) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # DeBERTa's functions are TorchScript
        from kniv.training.reference import Shape, reference

        return reference(Shape(of.hidden, of.layers, of.hidden // 64, of.inner, vocabulary=100)).eval()


@pytest.mark.parametrize(("rows", "length"), [(1, 7), (3, 20)])
def test_encoder_operations_are_those_that_pytorch_counts(rows: int, length: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.ones((rows, length), dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(TINY).encode(ids, ids, torch.zeros(rows, dtype=torch.long))
    ours = sum(part.operations for part in parts(rows, length, TINY, published=True) if part.name in COUNTED)
    assert counter.get_total_flops() == ours


def test_weights_are_those_of_the_model() -> None:
    ours = sum(part.weights for part in parts(2, 5, TINY))
    # Matrices that multiply; embedding tables are looked up, and a scalar mix is no matrix.
    matrices = [
        parameter.numel()
        for name, parameter in model(TINY).named_parameters()
        if parameter.ndim > 1 and "embeddings" not in name and not name.startswith("predicate")
    ]
    assert ours == sum(matrices)


@given(st.integers(1, 32), st.integers(2, 256))
def test_published_graph_does_no_less(rows: int, length: int) -> None:
    needed, done = parts(rows, length), parts(rows, length, published=True)
    assert [part.name for part in needed] == [part.name for part in done]
    for less, more in zip(needed, done, strict=True):
        assert 0 <= less.operations <= more.operations or length > 256
        assert less.bytes(1) <= less.bytes(4)


@given(st.integers(1, 16), st.integers(2, 128))
def test_operations_grow_with_rows(rows: int, length: int) -> None:
    one, two = (sum(part.operations for part in parts(count, length, SMALL)) for count in (rows, 2 * rows))
    assert two == pytest.approx(2 * one)
