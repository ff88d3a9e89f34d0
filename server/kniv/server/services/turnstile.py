"""Letting answers out in the order in which their work was begun."""

from __future__ import annotations

import asyncio


class Turnstile:
    """Tickets are drawn in order; each holder waits for its number, then passes.

    Args:
        ordered: without order nobody waits.
    """

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._drawn = 0
        self._next = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def draw(self) -> int:
        """The next ticket. Its holder must :meth:`enter` and then :meth:`leave`, whatever happens in between."""
        self._drawn += 1
        return self._drawn - 1

    async def enter(self, ticket: int) -> None:
        """Wait until every earlier ticket's holder has left."""
        if self._ordered and ticket != self._next:
            self._waiting[ticket] = asyncio.get_running_loop().create_future()
            await self._waiting[ticket]

    def leave(self, ticket: int) -> None:
        """Let the next ticket in."""
        if not self._ordered:
            return
        self._next = ticket + 1
        waiting = self._waiting.pop(self._next, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
