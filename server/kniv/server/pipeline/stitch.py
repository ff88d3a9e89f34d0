"""One set of scores for a sentence out of its windows' outputs.

Each word is read in the window in which it stands farthest from an edge that is not the sentence's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kniv.server.graphs.contract import RELATIONS, SCORES
from kniv.server.pipeline.encode import Window

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

UNREACHED = -1e4  # arc score between words that no window saw together


class Relations(Protocol):
    """Relations of a window's words, which are counted from its first."""

    def at(self, words: Ints, heads: Ints) -> Ints:
        """Class [n] of the best relation but root of each word [n] to its head [n]."""
        ...


@dataclass(frozen=True, slots=True)
class RelationsOfAll:
    """Relations between all words.

    Attributes:
        best: class [W, W] between each dependent and head.
    """

    best: NDArray[np.uint16]

    def at(self, words: Ints, heads: Ints) -> Ints:
        """See :class:`Relations`."""
        return self.best[words, heads].astype(np.int64)


@dataclass(frozen=True, slots=True)
class RelationsAtBest:
    """Relations to the heads that the model likes best, and what scores those to others.

    Attributes:
        best: class of the relation to that head [W].
        chosen: subword of that head [W].
        first: first subword of each word [W].
        dependent, head: each word's values as either [W, d + 1].
        weight: a matrix a relation [C, d + 1, d + 1]: see :mod:`kniv.server.graphs.relations`.
        root: class of the relation ``root``.
    """

    best: Ints
    chosen: Ints
    first: Ints
    dependent: Floats
    head: Floats
    weight: Floats
    root: int

    def at(self, words: Ints, heads: Ints) -> Ints:
        """See :class:`Relations`."""
        found = self.best[words]
        others = np.flatnonzero(self.chosen[words] != self.first[heads])
        if len(others):
            by_head = (self.weight @ self.head[heads[others], None, :, None])[..., 0]
            scores = (by_head @ self.dependent[words[others], :, None])[..., 0]
            found[others] = _best(scores, self.root)
        return found


@dataclass(frozen=True, slots=True)
class Scores:
    """Word-level outputs of one window or of one sentence of W words; None where not asked for.

    Attributes:
        pos: POS logits [W, P].
        ner: NER logits [W, N].
        arcs: arc scores [W, W], row = dependent, column = head.
        relations: the best relations but root.
    """

    pos: Floats | None
    ner: Floats | None
    arcs: Floats | None
    relations: Relations | None


def word_scores(outputs: dict[str, Floats], window: Window, root: int, relation_weight: Floats | None = None) -> Scores:
    """Read a window's outputs at the first subword of each word; the arrays are copies.

    Args:
        outputs: outputs of the window's row.
        window: the window.
        root: class of the relation ``root``, which only the root has.
        relation_weight: of graphs that give relations at the best heads alone.
    """
    first = window.first

    def per_word(name: str) -> Floats | None:
        return outputs[name].take(first, 0) if name in outputs else None

    relations: Relations | None = None
    arcs = per_word("arc_scores")
    if relation_weight is not None and arcs is not None and SCORES in outputs:
        scores, dependent, head = (outputs[name].take(first, 0) for name in RELATIONS)
        relations = RelationsAtBest(_best(scores, root), arcs.argmax(-1), first, dependent, head, relation_weight, root)
    elif "label_scores" in outputs:
        # The scores of all relations between all words are large, and but one relation a word will be asked for.
        scores = outputs["label_scores"].take(first, 0).take(first, 1)
        relations = RelationsOfAll(_best(scores, root).astype(np.uint16))
    if arcs is not None:
        arcs = arcs.take(first, 1)
    return Scores(per_word("pos_logits"), per_word("ner_logits"), arcs, relations)


def _best(scores: NDArray[np.floating], root: int) -> Ints:
    """Class of the highest score in the last dimension, ``root`` left out; the scores are changed."""
    scores[..., root] = -np.inf
    best: Ints = scores.argmax(-1)
    return best


def home_windows(windows: Sequence[Window], words: int) -> Ints:
    """For each word [W] the index of the window that reads it."""
    home = np.zeros(words, dtype=np.int64)
    if len(windows) == 1:
        return home
    best = np.full(words, -1)
    for index, window in enumerate(windows):
        places = np.arange(window.begin, window.end)
        left = places - window.begin if window.begin else np.full(len(places), words)
        right = window.end - 1 - places if window.end < words else np.full(len(places), words)
        margin = np.minimum(left, right)
        better = margin > best[places]
        home[places[better]], best[places[better]] = index, margin[better]
    return home


def stitch(parts: Sequence[Scores], windows: Sequence[Window], words: int) -> Scores:
    """Scores of the whole sentence. Relations stay with their windows: see :func:`relations_at`."""
    if len(parts) == 1:
        return parts[0]
    home = home_windows(windows, words)
    arcs = None
    if parts[0].arcs is not None:
        arcs = np.full((words, words), UNREACHED, dtype=np.float32)
    pos, ner = (_rows([getattr(part, name) for part in parts], windows, home) for name in ("pos", "ner"))
    for index, (part, window) in enumerate(zip(parts, windows, strict=True)):
        if arcs is not None and part.arcs is not None:
            mine = np.flatnonzero(home == index)
            arcs[mine, window.begin : window.end] = part.arcs[mine - window.begin]
    return Scores(pos, ner, arcs, None)


def relations_at(parts: Sequence[Scores], windows: Sequence[Window], heads: Ints, root: int) -> list[int]:
    """Relation class [W] of each word to its head [W]; ``root`` at the root and nowhere else.

    For a head outside the word's own window (a tree may need one to hold together) the relation is the
    one that the word would have to itself.
    """
    words = np.arange(len(heads))
    if len(parts) == 1:
        assert parts[0].relations is not None
        found = parts[0].relations.at(words, heads)
        found[heads == words] = root
        return [*found.tolist()]
    home = home_windows(windows, len(heads))
    found = np.full(len(heads), root)
    for index, (part, window) in enumerate(zip(parts, windows, strict=True)):
        assert part.relations is not None
        mine = np.flatnonzero((home == index) & (heads != words))
        inside = (heads[mine] >= window.begin) & (heads[mine] < window.end)
        found[mine] = part.relations.at(mine - window.begin, np.where(inside, heads[mine], mine) - window.begin)
    return [*found.tolist()]


def _rows(values: Sequence[Floats | None], windows: Sequence[Window], home: Ints) -> Floats | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return np.stack([known[index][word - windows[index].begin] for word, index in enumerate(home)])
