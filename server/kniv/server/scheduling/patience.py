"""Rows that wait for room outside the scheduler: what slows streams down."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Patience(Generic[T]):
    """Waiting rows by client; clients take turns, so that one that is at its quota holds up nobody else.

    Bounded by those who wait: a stream has a fixed number of sentences in flight, wherever they wait.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def wait(self, client: Hashable, row: T) -> None:
        """Stand in line behind the client's others."""
        self._lines.setdefault(client, deque()).append(row)

    def has(self, client: Hashable) -> bool:
        """Whether rows of a client wait, which later ones must not overtake."""
        return client in self._lines

    def leave(self, client: Hashable, row: T) -> None:
        """Stop waiting; one who does not wait is passed over."""
        line = self._lines.get(client)
        if line is not None and row in line:
            line.remove(row)
            if not line:
                del self._lines[client]

    def clear(self) -> list[T]:
        """Let all go; those who waited."""
        rows = [row for line in self._lines.values() for row in line]
        self._lines.clear()
        return rows

    def admit(self, take: Callable[[T], bool], most: int) -> bool:
        """Offer what there is room for to the clients in turn.

        Args:
            take: takes a row if there is room for it.
            most: rows to offer; a client that is refused loses its turn, not its place.

        Returns:
            Whether any was taken.
        """
        taken = False
        for _ in range(most):
            if not self._lines:
                break
            client, line = next(iter(self._lines.items()))
            self._lines.move_to_end(client)
            if take(line[0]):
                taken = True
                line.popleft()
                if not line:
                    del self._lines[client]
        return taken
