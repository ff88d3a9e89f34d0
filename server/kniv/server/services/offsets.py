"""Offsets in the caller's unit.

Inside the server an offset counts code points. What a caller counts depends on its language: code
points (Python), UTF-8 bytes (Go, Rust) or UTF-16 code units (JavaScript, Java).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from enum import Enum

import numpy as np

from kniv.server.errors import InvalidRequestError

MAX_SPANS = 256


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
    if unit is Unit.CODE_POINT or text.isascii():
        return range(len(text) + 1)
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    steps = (0x7F, 0x7FF, 0xFFFF) if unit is Unit.UTF8_BYTE else (0xFFFF,)
    sizes = sum((points > step for step in steps), np.ones(len(points), dtype=np.int64))
    return [0, *np.cumsum(sizes).tolist()]


def to_code_points(offsets: Sequence[int], text: str, unit: Unit, field: str) -> list[int]:
    """Offsets of characters of ``text`` from the caller's unit.

    Raises:
        InvalidRequestError: there are too many, or one lies outside the text, inside a character or on white space.
    """
    if len(offsets) > MAX_SPANS:
        raise InvalidRequestError(field, f"{len(offsets)} spans; at most {MAX_SPANS} a text")
    places = marks(text, unit)
    found = []
    for position, offset in enumerate(offsets):
        where = f"{field}[{position}].start"
        place = bisect_left(places, offset)
        if place >= len(text) or places[place] != offset:
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
