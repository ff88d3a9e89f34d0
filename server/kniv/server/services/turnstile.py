"""Letting answers out in the order in which their work was begun."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Turnstile(Generic[T]):
    """Tickets are drawn in order, and what comes with them passes in that order.

    Args:
        ordered: without order nothing waits.
    """

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._drawn = 0
        self._next = 0
        self._waiting: dict[int, T] = {}

    def draw(self) -> int:
        """The next ticket. Something must :meth:`enter` with it, or nothing that is drawn later passes."""
        self._drawn += 1
        return self._drawn - 1

    def enter(self, ticket: int, one: T) -> list[T]:
        """What may pass now: this one, unless an earlier ticket is still out, and those that waited for it alone."""
        if not self._ordered:
            return [one]
        self._waiting[ticket] = one
        passing = []
        while self._next in self._waiting:
            passing.append(self._waiting.pop(self._next))
            self._next += 1
        return passing
