"""The rows of the encoder that an annotated sentence took, told from the annotation itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.server.wire import Annotation
from kniv.server.pipeline.encode import Encoder
from kniv.server.pipeline.stitch import home_windows

Ints = NDArray[np.int64]

TAGS = ("pos_logits", "ner_logits", "arc_scores", "label_scores")
ROLES = ("srl_logits",)
ACT = ("cls_logits",)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as the server cut it.

    Attributes:
        previous: the turn before, None if there is none.
        words: its words.
        predicates: which of them frames were found for.
        tagged: whether its words were to be tagged, or only its act told.
    """

    text: str
    previous: str | None
    words: tuple[str, ...]
    predicates: tuple[int, ...]
    tagged: bool


@dataclass(frozen=True, slots=True)
class Row:
    """Subword ids [S], the predicate's index among them or 0, and the outputs that are read."""

    ids: Ints
    predicate: int
    outputs: tuple[str, ...]


def sentence_of(annotation: bytes, previous: str | None) -> Sentence:
    """A sentence from its annotation on the wire."""
    found = Annotation.FromString(annotation)
    tokens = tuple(token.text for token in found.tokens)
    predicates = tuple(frame.predicate for frame in found.frames)
    return Sentence(found.text, previous, tokens, predicates, any(token.upos for token in found.tokens))


def rows_of(sentence: Sentence, encoder: Encoder) -> Iterator[Row]:
    """One row a window for the tags, one a predicate for its roles, one for the dialog act if that is another."""
    windows = encoder.windows(sentence.words)
    act = encoder.act(sentence.previous, sentence.text, windows)
    windows = windows if sentence.tagged else []
    shared = len(windows) == 1 and act is windows[0].ids
    if not shared:
        yield Row(act, 0, ACT)
    for window in windows:
        yield Row(window.ids, 0, TAGS + ACT if shared else TAGS)
    home = home_windows(windows, len(sentence.words))
    for predicate in sentence.predicates:
        window = windows[home[predicate]]
        yield Row(window.ids, int(window.first[predicate - window.begin]), ROLES)


def feed(rows: Sequence[Row]) -> dict[str, Ints]:
    """Inputs of one padded batch."""
    shape = len(rows), max(len(row.ids) for row in rows)
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], mask[place, : len(row.ids)] = row.ids, 1
    predicates = np.array([row.predicate for row in rows], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask, "predicate_idx": predicates}
