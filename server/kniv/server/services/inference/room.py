"""Room for the answers of all raw requests under way: they are a thousand times as large as what asks for them."""

from __future__ import annotations

import asyncio

from kniv.server.errors import OverloadedError

_RETRY_SECONDS = 1.0  # when a request under way will end is not known


class Room:
    """A number of bytes that requests share; for one event loop.

    Args:
        most: bytes taken at once; a single request that is larger is let in when nothing else is.
    """

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0
        self._turn, self._changed = asyncio.Lock(), asyncio.Event()

    async def take(self, size: int, *, patient: bool) -> None:
        """Take room for an answer, to be given back by :meth:`give`.

        Args:
            size: its bytes.
            patient: whether to wait for it, in the order of coming.

        Raises:
            OverloadedError: there is none, and the request does not wait.
        """
        if not patient and (self._turn.locked() or not self._fits(size)):
            raise OverloadedError("response_bytes", _RETRY_SECONDS)
        async with self._turn:
            while not self._fits(size):
                self._changed.clear()
                await self._changed.wait()
            self._taken += size

    def give(self, size: int) -> None:
        """Give room back."""
        self._taken -= size
        self._changed.set()

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._most
