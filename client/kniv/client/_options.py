"""What a caller may ask for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from kniv.client._annotation import OffsetUnit, Task

Predicates = Iterable[tuple[int, int]]
"""Half-open ranges (start, end) of the text, in the offset unit asked for."""


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text with more to say about it.

    ``previous`` is the turn before, where the text answers one: context of its dialog act. ``predicates`` are the
    words to find frames for, by any character in them; every verb if empty.
    """

    text: str
    previous: str | None = None
    predicates: Predicates = ()


class Options(TypedDict, total=False):
    """What to annotate with, and how; everything may be left out or None."""

    model: str | None
    """Model name; the server's default model if None."""
    version: int | None
    """Version number; the newest ready one if None."""
    variant: str | None
    """Variant, for example "int8"; the version's default if None."""
    tasks: Iterable[Task | str] | None
    """Layers of annotation; all of the model's if None."""
    offset_unit: OffsetUnit | str | None
    """What offsets count; Unicode code points, as in Python's str, if None."""
    priority: int | None
    """Priority level, 1 the most urgent; the server's default level if None."""


class StreamOptions(Options, total=False):
    """The same for a stream."""

    in_order: bool
    """Items in the order of their arrival, sentences in the order of the text; else each as soon as it is ready."""
    context_turns: int | None
    """Earlier turns that a turn's dialog act looks back on: the server's default, 1, if None, and none if 0."""
