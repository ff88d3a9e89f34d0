"""One set of scores for a sentence out of its windows' outputs.

Each word is read in the window in which it stands farthest from an edge that is not the sentence's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kniv.server.pipeline.encode import Window

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Relations = NDArray[np.uint16]

UNREACHED = -1e4  # arc score between words that no window saw together


@dataclass(frozen=True, slots=True)
class Scores:
    """Word-level outputs of one window or of one sentence of W words; None where not asked for.

    Attributes:
        pos: POS logits [W, P].
        ner: NER logits [W, N].
        arcs: arc scores [W, W], row = dependent, column = head.
        labels: class [W, W] of the best relation but root between each dependent and head.
    """

    pos: Floats | None
    ner: Floats | None
    arcs: Floats | None
    labels: Relations | None


def word_scores(outputs: dict[str, Floats], window: Window, root: int) -> Scores:
    """Read a window's outputs at the first subword of each word; the arrays are copies.

    Args:
        outputs: outputs of the window's row.
        window: the window.
        root: class of the relation ``root``, which only the root has.
    """
    first = window.first

    def per_word(name: str) -> Floats | None:
        return outputs[name][first] if name in outputs else None

    def per_pair(name: str) -> Floats | None:
        return outputs[name][first[:, None], first[None, :]] if name in outputs else None

    labels = per_pair("label_scores")
    best = None
    if labels is not None:
        # The scores of all relations between all words are large, and but one relation a word will be asked for.
        labels[..., root] = -np.inf
        best = labels.argmax(-1).astype(np.uint16)
    return Scores(per_word("pos_logits"), per_word("ner_logits"), per_pair("arc_scores"), best)


def home_windows(windows: Sequence[Window], words: int) -> Ints:
    """For each word [W] the index of the window that reads it."""
    home = np.zeros(words, dtype=np.int64)
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
    home = home_windows(windows, len(heads))
    found = []
    for word, head in enumerate(heads):
        window, labels = windows[home[word]], parts[home[word]].labels
        assert labels is not None
        seen = head if window.begin <= head < window.end else word
        found.append(root if head == word else int(labels[word - window.begin, seen - window.begin]))
    return found


def _rows(values: Sequence[Floats | None], windows: Sequence[Window], home: Ints) -> Floats | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return np.stack([known[index][word - windows[index].begin] for word, index in enumerate(home)])
