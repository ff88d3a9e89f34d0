"""What the pipeline makes of a sentence: plain values, free of wire types.

Offsets are code points of the item's text, ranges are half-open, token indices count from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Task(StrEnum):
    """A layer of annotation."""

    POS = "pos"
    NER = "ner"
    DEP = "dep"
    SRL = "srl"
    DIALOG_ACT = "dialog_act"


class Token(NamedTuple):
    """A word; what was not asked for is None. The root's head is itself."""

    start: int
    end: int
    upos: str | None = None
    head: int | None = None
    relation: str | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """A named entity over tokens [first, end)."""

    type: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Argument:
    """A predicate's argument over tokens [first, end)."""

    role: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A predicate's token with its arguments in the order of the text."""

    predicate: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds waited for a batch, run in the model, and passed in all."""

    queue: float
    compute: float
    total: float


@dataclass(frozen=True, slots=True)
class SentenceAnnotation:
    """Everything found in one sentence.

    Attributes:
        index: place of the sentence in its item.
        start: offset of ``text`` in the item's text.
        acts: every dialog act with its probability, most probable first; None if not asked for.
        windowed: the sentence was longer than the model reads at once.
    """

    index: int
    start: int
    text: str
    tokens: tuple[Token, ...]
    entities: tuple[Entity, ...]
    frames: tuple[Frame, ...]
    acts: tuple[tuple[str, float], ...] | None
    windowed: bool
    timings: Timings
