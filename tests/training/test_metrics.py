from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.training.metrics import accuracy, macro_f1, span_f1

ACTS = ("a", "b", "c")
pairs = st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(ACTS)), min_size=1, max_size=30)


@given(pairs)
def test_macro_f1_is_the_mean_of_the_classes_own(rows: list[tuple[str, str]]) -> None:
    scores = []
    for name in ACTS:
        right = sum(g == f == name for g, f in rows)
        precision = right / max(1, sum(f == name for _, f in rows))
        recall = right / max(1, sum(g == name for g, _ in rows))
        scores.append(2 * precision * recall / (precision + recall) if right else 0.0)
    gold, found = zip(*rows, strict=True)
    assert macro_f1(gold, found, ACTS) == pytest.approx(sum(scores) / 3)


@given(pairs)
def test_span_f1_of_one_label_a_row_is_accuracy(rows: list[tuple[str, str]]) -> None:
    gold, found = zip(*rows, strict=True)
    assert span_f1(([g], [f]) for g, f in rows) == pytest.approx(accuracy(gold, found))


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=5))
def test_perfect_and_empty(rows: list[list[int]]) -> None:
    any_span = any(rows)
    assert span_f1((row, row) for row in rows) == (1.0 if any_span else 0.0)
    assert span_f1((row, []) for row in rows) == 0.0


def test_accuracy_of_nothing_is_zero() -> None:
    assert accuracy([], []) == 0.0
