"""Scores of predictions against gold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def accuracy(gold: Sequence[Hashable], found: Sequence[Hashable]) -> float:
    """Share of equal pairs; 0 for empty sequences."""
    right = sum(g == f for g, f in zip(gold, found, strict=True))
    return right / len(gold) if gold else 0.0


def span_f1(pairs: Iterable[tuple[Iterable[Hashable], Iterable[Hashable]]]) -> float:
    """Micro F1 of exactly matching spans.

    Args:
        pairs: gold spans and spans found, sentence by sentence.
    """
    right = gold_count = found_count = 0
    for gold, found in pairs:
        gold_set, found_set = set(gold), set(found)
        right += len(gold_set & found_set)
        gold_count += len(gold_set)
        found_count += len(found_set)
    return 2 * right / (gold_count + found_count) if right else 0.0


def macro_f1(gold: Sequence[str], found: Sequence[str], classes: Sequence[str]) -> float:
    """Mean F1 over ``classes``; a class that occurs on neither side counts as 0."""
    right = Counter(g for g, f in zip(gold, found, strict=True) if g == f)
    total = Counter(gold) + Counter(found)
    return sum(2 * right[name] / total[name] if total[name] else 0.0 for name in classes) / len(classes)
