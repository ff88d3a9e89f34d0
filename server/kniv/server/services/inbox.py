"""What a stream has read and not yet begun: a queue bounded in messages and in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A bounded queue with one producer and one consumer, each a task of its own.

    Args:
        messages: most messages held.
        size: most bytes held; a single larger message is still taken when the queue is empty.
    """

    def __init__(self, messages: int, size: int) -> None:
        self._messages, self._size = messages, size
        self._held: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = asyncio.Condition()

    async def put(self, message: T, size: int) -> None:
        """Append a message, waiting while the queue is full."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(size))
            self._held.append((message, size))
            self._bytes += size
            self._changed.notify_all()

    async def close(self) -> None:
        """No more messages will come."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop what is held: nobody will take it."""
        self._held.clear()
        self._bytes = 0

    async def get(self) -> T | None:
        """The next message, or None once the queue is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held or self._closed)
            if not self._held:
                return None
            message, size = self._held.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return message

    def _has_room(self, size: int) -> bool:
        return not self._held or (len(self._held) < self._messages and self._bytes + size <= self._size)
