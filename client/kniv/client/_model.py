"""What a model can do, as values."""

from __future__ import annotations

from dataclasses import dataclass

from kniv.client._annotation import Task


@dataclass(frozen=True, slots=True)
class LabelSets:
    """The labels that answers are made of."""

    pos: tuple[str, ...]
    entity_types: tuple[str, ...]
    relations: tuple[str, ...]
    roles: tuple[str, ...]
    dialog_acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a model reads at once: subwords in one pass, and earlier turns behind a dialog act."""

    max_subwords: int
    max_context_turns: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model.

    ``reason`` tells why a version is not ready. ``labels`` and ``limits`` are None in lists.
    """

    version: int
    variants: tuple[str, ...]
    default_variant: str
    ready: bool
    reason: str
    tasks: tuple[Task, ...]
    labels: LabelSets | None
    limits: ModelLimits | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that the server knows, its versions newest first."""

    name: str
    versions: tuple[ModelVersion, ...]
