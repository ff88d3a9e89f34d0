"""From scores to structures: BIO tags, spans and trees, in numpy alone.

Shapes use W words, C classes. The same decoders serve requests and compute evaluation figures.
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
        self._inside = [index for index, label in enumerate(self.labels) if label.startswith("I-")]
        self._begin = [place[f"B-{self.labels[index][2:]}"] for index in self._inside]
        self._free = [index for index in range(len(self.labels)) if index not in self._inside]
        self._predicate = place.get(_PREDICATE)
        # For each class that may not follow any other, those that it may.
        self._before = {one: (begin, one) for one, begin in zip(self._inside, self._begin, strict=True)}

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
            best = self._search(self._with_predicate(scores.astype(np.float64), predicate))
        return tuple([self.labels[index] for index in best])

    def _stands(self, path: Sequence[int], predicate: int | None) -> bool:
        """Whether classes may stand in this order, ``V`` at the predicate alone."""
        last = -1
        for word, index in enumerate(path):
            before = self._before.get(index)
            if (before is not None and last not in before) or (index == self._predicate and word != predicate):
                return False
            last = index
        return True

    def _with_predicate(self, scores: Doubles, predicate: int | None) -> Doubles:
        """Scores by which ``V`` can stand at the predicate alone; those given are changed."""
        if self._predicate is not None:
            forced = scores[predicate, self._predicate] if predicate is not None else -np.inf
            scores[:, self._predicate] = -np.inf
            if predicate is not None:
                scores[predicate] = -np.inf
                scores[predicate, self._predicate] = forced
        return scores

    def _search(self, emitted: Doubles) -> list[int]:
        """Classes [W] of the best path, W > 0.

        Of all paths up to a word only so many can go on as the best: the best of all, which a class that may follow
        any continues, and for each type the best with a span of it at that word, which its ``I-`` continues.
        """
        free, begin, inside = emitted[:, self._free], emitted[:, self._begin], emitted[:, self._inside]
        best, gains = free.argmax(-1).tolist(), free.max(-1).tolist()
        if not self._inside:
            return [self._free[one] for one in best]
        top, spanned = gains[0], begin[0]
        lasts = [-1]  # at each word the type whose span the best path continues, -1 for none
        begun = [np.ones(len(self._begin), dtype=bool)]  # and the types whose best span begins there
        for word in range(1, len(emitted)):
            going = spanned + inside[word]
            fresh = top + begin[word]
            begun.append(fresh >= going)
            spanned = np.maximum(fresh, going)
            kind = int(going.argmax())
            top += gains[word]
            lasts.append(kind if going[kind] > top else -1)
            top = max(top, float(going[kind]))
        path: list[int] = []
        kind = -1
        for word in reversed(range(len(emitted))):
            if kind < 0:
                kind = lasts[word]
                path.append(self._free[best[word]] if kind < 0 else self._inside[kind])
            elif begun[word][kind]:
                path.append(self._begin[kind])
                kind = -1
            else:
                path.append(self._inside[kind])
        return path[::-1]


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
