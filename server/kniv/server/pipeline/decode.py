"""From scores to structures: BIO tags, spans and trees, in numpy alone.

Shapes use B rows, W words, C classes. The same decoders serve requests and compute evaluation figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ufal.chu_liu_edmonds import chu_liu_edmonds

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

_PREDICATE = "V"


class Span(NamedTuple):
    """A labelled range of words: ``start`` inclusive, ``end`` exclusive."""

    start: int
    end: int
    label: str


class BioDecoder:
    """The best valid BIO sequence (Viterbi 1967), for one set of labels.

    ``I-X`` may follow only ``B-X`` and ``I-X``; every other label may follow any. Where the labels hold
    ``V`` (semantic roles), it stands at the predicate and nowhere else. Nothing is better than each word's best label,
    so where these are a valid sequence, as they mostly are, there is nothing to search. Because a label is bound to
    its predecessor only inside a span, a step of the search costs C comparisons, not C * C.

    Args:
        labels: label of each class: ``O``, ``B-X``, ``I-X`` and at most one ``V``.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        place = {label: index for index, label in enumerate(self.labels)}
        inside = [index for index, label in enumerate(self.labels) if label.startswith("I-")]
        self._inside = np.array(inside, dtype=np.int64)
        self._begin = np.array([place[f"B-{self.labels[index][2:]}"] for index in inside], dtype=np.int64)
        self._predicate = place.get(_PREDICATE)
        # For each class that may not follow any other, those that it may.
        self._before = {one: (begin, one) for one, begin in zip(inside, self._begin.tolist(), strict=True)}
        # Which classes may come first, and whether the second may follow the first.
        self._first = np.ones(len(self.labels), dtype=bool)
        self._first[self._inside] = False
        self._after = np.tile(self._first, (len(self.labels), 1))
        self._after[self._begin, self._inside] = self._after[self._inside, self._inside] = True

    def decode(self, scores: Floats, predicate: int | None = None) -> tuple[str, ...]:
        """Tags of one sentence.

        Args:
            scores: logits [W, C] at each word's first subword.
            predicate: word that takes ``V``; without it no word does.
        """
        best = scores.argmax(-1).tolist() if len(scores) else []
        if predicate is not None and self._predicate is not None:
            best[predicate] = self._predicate
        if not self._stands(best, predicate):
            predicates = None if predicate is None else np.array([predicate])
            best = self.decode_rows(scores[None], np.array([len(scores)]), predicates)[0].tolist()
        return tuple([self.labels[index] for index in best])

    def _stands(self, path: Sequence[int], predicate: int | None) -> bool:
        """Whether classes may stand in this order, ``V`` at the predicate alone: :meth:`_valid` for one short row."""
        last = -1
        for word, index in enumerate(path):
            before = self._before.get(index)
            if (before is not None and last not in before) or (index == self._predicate and word != predicate):
                return False
            last = index
        return True

    def decode_rows(self, scores: Floats, lengths: Ints, predicates: Ints | None = None) -> Ints:
        """Class indices [B, W] of padded rows; what stands beyond a row's length means nothing.

        Args:
            scores: logits [B, W, C].
            lengths: words of each row [B].
            predicates: word that takes ``V`` in each row [B].
        """
        rows, words, _ = scores.shape
        if not words:
            return np.zeros((rows, 0), dtype=np.int64)
        emitted = self._with_predicates(scores.astype(np.float64), predicates)
        path: Ints = emitted.argmax(-1)
        searched = np.flatnonzero(~self._valid(path, lengths))
        if len(searched):
            path[searched] = self._search(emitted[searched], lengths[searched])
        return path

    def _valid(self, path: Ints, lengths: Ints) -> NDArray[np.bool_]:
        """Whether each row's classes [B, W] may stand in this order."""
        first = self._first[path[:, 0]]
        beyond = np.arange(1, path.shape[1]) >= lengths[:, None]
        return first & (self._after[path[:, :-1], path[:, 1:]] | beyond).all(-1)

    def _search(self, emitted: Doubles, lengths: Ints) -> Ints:
        rows, words, _ = emitted.shape
        total = emitted[:, 0].copy()
        total[:, self._inside] = -np.inf
        back = np.empty((words, rows, len(self.labels)), dtype=np.int64)
        for word in range(1, words):
            best = total.argmax(-1)
            step = np.repeat(best[:, None], total.shape[1], axis=1)
            begun, inside = total[:, self._begin], total[:, self._inside]
            step[:, self._inside] = np.where(begun >= inside, self._begin, self._inside)
            alive = (word < lengths)[:, None]
            back[word] = np.where(alive, step, np.arange(total.shape[1]))
            total = np.where(alive, np.take_along_axis(total, step, -1) + emitted[:, word], total)
        path = np.empty((rows, words), dtype=np.int64)
        path[:, -1] = total.argmax(-1)
        for word in range(words - 1, 0, -1):
            path[:, word - 1] = np.take_along_axis(back[word], path[:, word, None], -1)[:, 0]
        return path

    def _with_predicates(self, scores: Doubles, predicates: Ints | None) -> Doubles:
        if self._predicate is None:
            return scores
        forced = scores[..., self._predicate].copy()
        scores[..., self._predicate] = -np.inf
        if predicates is not None:
            rows = np.arange(len(scores))
            scores[rows, predicates] = -np.inf
            scores[rows, predicates, self._predicate] = forced[rows, predicates]
        return scores


def spans(tags: Sequence[str]) -> list[Span]:
    """Typed spans of a BIO sequence; an ``I-`` that continues nothing opens a span of its own."""
    found: list[Span] = []
    start, kind = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.append(Span(start, position, kind))
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = position, name
    return found


def tree(scores: Floats) -> Ints:
    """Heads [W] of the best tree with exactly one root; the root's head is itself.

    Each word's best head where that already is a tree, otherwise the maximum spanning arborescence
    (Chu & Liu 1965, Edmonds 1967). One root is had by a penalty on root arcs that outweighs anything
    the other arcs can gain, after which the unconstrained optimum is the constrained one.

    Args:
        scores: arc scores [W, W], dependent by head, the diagonal being the score of the root.
            Minus infinity and NaN mark arcs to avoid.
    """
    words = len(scores)
    if words < 2:
        return np.zeros(words, dtype=np.int64)
    greedy: Ints = scores.argmax(-1)
    if np.isfinite(scores).all() and is_tree(greedy):
        return greedy
    known = _finite(scores)
    if is_tree(greedy := known.argmax(-1)):
        return greedy
    diagonal = np.arange(words)
    matrix = np.zeros((words + 1, words + 1))
    matrix[1:, 1:] = known
    matrix[1:, 0] = known[diagonal, diagonal] - (np.ptp(known) + 1) * words
    matrix[diagonal + 1, diagonal + 1] = np.nan  # the package's mark of an arc that is not there
    heads = np.array(chu_liu_edmonds(matrix)[0][1:], dtype=np.int64) - 1
    return np.where(heads < 0, diagonal, heads)


def relations(scores: Floats, heads: Ints, root: int) -> Ints:
    """Relation class [W] of each word to its head: ``root`` at the root and nowhere else.

    Args:
        scores: label scores [W, C] read at (word, its head).
        heads: as :func:`tree` gives them [W].
        root: class index of ``root``.
    """
    is_root = heads == np.arange(len(heads))
    others = scores.copy()
    others[:, root] = -np.inf
    return np.where(is_root, root, others.argmax(-1))


def _finite(scores: Floats) -> Doubles:
    """Scores in float64 with arcs to avoid so low that a tree takes as few of them as it can."""
    doubles = scores.astype(np.float64)
    known = np.isfinite(doubles)
    if known.all():
        return doubles
    low, high = (doubles[known].min(), doubles[known].max()) if known.any() else (0.0, 0.0)
    return np.where(known, doubles, low - (high - low + 1) * len(doubles))


def is_tree(heads: Ints) -> bool:
    """Whether one word alone is its own head and every word reaches it."""
    above: list[int] = heads.tolist()
    roots = [word for word, head in enumerate(above) if word == head]
    if len(roots) != 1:
        return False
    reaches = set(roots)
    for word in range(len(above)):
        path: list[int] = []
        at = word
        while at not in reaches:
            if len(path) == len(above):
                return False
            path.append(at)
            at = above[at]
        reaches.update(path)
    return True
