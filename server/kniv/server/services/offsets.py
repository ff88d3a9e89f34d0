"""Offsets in the caller's unit.

Inside the server an offset counts code points. What a caller counts depends on its language: code
points (Python), UTF-8 bytes (Go, Rust) or UTF-16 code units (JavaScript, Java).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kniv.server.errors import InvalidRequestError

MAX_SPANS = 256


class Span(Protocol):
    """What a caller names of a text."""

    @property
    def start(self) -> int:
        """Offset of its first character, in the caller's unit."""
        ...


class Unit(Enum):
    """What one step of an offset counts."""

    CODE_POINT = 0
    UTF8_BYTE = 1
    UTF16_CODE_UNIT = 2


def length(text: str, unit: Unit) -> int:
    """Length of ``text`` in ``unit``."""
    if unit is Unit.CODE_POINT or text.isascii():
        return len(text)
    if unit is Unit.UTF8_BYTE:
        return len(text.encode("utf-8"))
    return len(text.encode("utf-16-le")) // 2


def marks(text: str, unit: Unit) -> Sequence[int]:
    """For each code point of ``text``, and for its end, the offset in ``unit``: len(text) + 1 numbers."""
    return range(len(text) + 1) if _plain(text, unit) else [0, *_ends(text, unit).tolist()]


def _plain(text: str, unit: Unit) -> bool:
    """Whether offsets in the unit are code points."""
    return unit is Unit.CODE_POINT or text.isascii()


def _ends(text: str, unit: Unit) -> NDArray[np.int64]:
    """Where each code point of a text ends in the unit, [len(text)]."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    steps = (0x7F, 0x7FF, 0xFFFF) if unit is Unit.UTF8_BYTE else (0xFFFF,)
    sizes = sum((points > step for step in steps), np.ones(len(points), dtype=np.int64))
    return np.cumsum(sizes)


def to_code_points(spans: Sequence[Span], text: str, unit: Unit, field: str) -> list[int]:
    """Where the characters of ``text`` are, in code points, at which spans in the caller's unit start.

    Raises:
        InvalidRequestError: there are too many, or one lies outside the text, inside a character or on white space.
    """
    if len(spans) > MAX_SPANS:
        raise InvalidRequestError(field, f"{len(spans)} spans; at most {MAX_SPANS} a text")
    ends = None if _plain(text, unit) else _ends(text, unit)
    found = []
    for position, offset in enumerate([span.start for span in spans]):
        where = f"{field}[{position}].start"
        # A character starts where the one before it ends.
        place = offset if ends is None or offset <= 0 else int(np.searchsorted(ends, offset)) + 1
        if not 0 <= place < len(text) or (ends is not None and place and ends[place - 1] != offset):
            raise InvalidRequestError(where, f"{offset} is not the start of a character of the text")
        if text[place].isspace():
            raise InvalidRequestError(where, f"{offset} is white space; name a character of the predicate")
        found.append(place)
    return found


class Ruler:
    """Measures where sentences start, in the caller's unit, while an item's text goes by.

    Args:
        unit: the caller's unit.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._pieces: deque[str] = deque()
        self._inside = 0  # code points of the first piece already measured
        self._at = 0  # code points measured in all
        self._measured = 0

    def feed(self, text: str) -> None:
        """Append text to the item."""
        if self.unit is not Unit.CODE_POINT and text:
            self._pieces.append(text)

    def measure(self, start: int) -> int:
        """Offset in the unit of code point ``start``; starts must not fall from call to call."""
        if self.unit is Unit.CODE_POINT:
            return start
        while self._pieces and self._at < start:
            piece = self._pieces[0]
            end = min(len(piece), self._inside + start - self._at)
            self._measured += length(piece[self._inside : end], self.unit)
            self._at += end - self._inside
            self._inside = end
            if end == len(piece):
                self._pieces.popleft()
                self._inside = 0
        return self._measured

    def clear(self) -> None:
        """Let go of the text; nothing more will be measured."""
        self._pieces.clear()
