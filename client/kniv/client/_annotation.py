"""What kniv says about a sentence, as values. Offsets count in the unit asked for: code points unless told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Task(StrEnum):
    """A layer of annotation."""

    POS = "pos"
    NER = "ner"
    DEP = "dep"
    SRL = "srl"
    DIALOG_ACT = "dialog_act"


class OffsetUnit(StrEnum):
    """What one step of an offset counts."""

    CODE_POINT = "code_point"
    UTF8_BYTE = "utf8_byte"
    UTF16_CODE_UNIT = "utf16_code_unit"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Which weights gave an answer."""

    name: str
    version: int
    variant: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in seconds: waiting for a batch, in the model, and from arrival to answer."""

    queue_s: float
    compute_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Token:
    """One syntactic word in the sense of Universal Dependencies ("don't" is two).

    ``upos`` is None without the task "pos". ``head`` is the index of the token's head in the sentence, from 0, the
    token itself at the root, and ``relation`` a UD relation; both are None without the task "dep".
    """

    text: str
    start: int
    end: int
    upos: str | None
    head: int | None
    relation: str | None


@dataclass(frozen=True, slots=True)
class Entity:
    """A named entity: tokens ``first_token`` up to, not including, ``end_token``."""

    type: str
    first_token: int
    end_token: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a predicate: tokens ``first_token`` up to, not including, ``end_token``."""

    role: str
    first_token: int
    end_token: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A predicate, by the index of its token, with its arguments in the order of the text."""

    predicate: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its probability, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class DialogAct:
    """The most probable act, its probability, and every act with its own, most probable first."""

    label: str
    score: float
    scores: tuple[LabelScore, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """Everything found in one sentence.

    ``index`` is its place in the text, from 0; ``start`` and ``end`` are where it stands in the whole text, as are
    all offsets below it. ``dialog_act`` is None, and ``entities`` and ``frames`` are empty, without their tasks.
    ``windowed`` tells that the sentence is longer than the model reads at once.
    """

    index: int
    start: int
    end: int
    text: str
    tokens: tuple[Token, ...]
    entities: tuple[Entity, ...]
    frames: tuple[Frame, ...]
    dialog_act: DialogAct | None
    windowed: bool
    model: ModelReference
    timings: Timings
