"""A heap whose members may die or grow while they are in it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_SMALL = 64
_NO_LIMIT = 1 << 60


class LazyHeap(Generic[T]):
    """Members by their keys, the smallest first, the first come among equals.

    A member that dies stays until it comes up or a sweep finds it, and one whose key has grown is put in its new
    place when it comes up, so that both cost nothing when they happen. Sweeps keep the heap at no more than about
    twice its living members, at a constant cost for each push on average.

    Args:
        key: of a member; may grow, never shrink, while the member is in the heap.
        live: whether a member still counts.
    """

    __slots__ = ("_heap", "_key", "_live", "_pushed", "_sweep_at")

    def __init__(self, key: Callable[[T], Any], live: Callable[[T], object]) -> None:
        self._key, self._live = key, live
        self._heap: list[tuple[Any, int, T]] = []
        self._pushed = 0
        self._sweep_at = _SMALL

    def __len__(self) -> int:
        """Members, dead ones included."""
        return len(self._heap)

    def push(self, member: T) -> None:
        """Add a member; one that is in the heap already stays in it once for all purposes."""
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        self._pushed += 1
        heappush(self._heap, (self._key(member), self._pushed, member))

    def first(self, effort: int = _NO_LIMIT) -> T | None:
        """The living member with the smallest key, None if there is none.

        Args:
            effort: members to move whose keys have grown, before whoever is then at the head is good enough.
        """
        heap, live, key_of = self._heap, self._live, self._key
        while heap:
            key, pushed, member = heap[0]
            if not live(member):
                heappop(heap)
            elif effort and (now := key_of(member)) != key:
                effort -= 1
                heapreplace(heap, (now, pushed, member))
            else:
                return member
        return None

    def _sweep(self) -> None:
        kept: dict[T, int] = {}
        for _, pushed, member in self._heap:
            if self._live(member):
                kept[member] = min(pushed, kept.get(member, pushed))
        self._heap = [(self._key(member), pushed, member) for member, pushed in kept.items()]
        heapify(self._heap)
        self._sweep_at = max(_SMALL, 2 * len(self._heap))
