"""Whose turn it is among a few that are known by name: lanes of a pool, and levels that have waited too long."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Share:
    """Who is passed over earns a part of what others get, and spends it when served.

    A token bucket in seconds of service: a claim holds while there is credit. Service had in quiet times counts
    against later claims, up to the reserve, so that a level which has the machine most of the time claims nothing
    in a short moment of pressure.

    Args:
        part: of the others' service that is earned.
        reserve: seconds of service by which credit may stand above or below nothing, if that is more than a batch.
    """

    __slots__ = ("_credit", "_part", "_reserve")

    def __init__(self, part: float, reserve: float) -> None:
        self._part, self._reserve = part, reserve
        self._credit = 0.0

    @property
    def claims(self) -> bool:
        """Whether it is this one's turn."""
        return self._credit > 0

    def earn(self, seconds: float) -> None:
        """Others were served for so long while this one waited too long."""
        gain = self._part * seconds
        self._credit = min(self._credit + gain, max(self._reserve, gain))

    def spend(self, seconds: float) -> None:
        """This one was served for so long."""
        loss = (1 - self._part) * seconds
        self._credit = max(self._credit - loss, -max(self._reserve, loss))


class Tags(Generic[K]):
    """Start-time tags of a few flows, the lanes of a pool; see :mod:`kniv.server.scheduling.fairness`."""

    def __init__(self) -> None:
        self._tags: dict[K, float] = {}
        self._now = 0.0

    def __getitem__(self, flow: K) -> float:
        return max(self._tags.get(flow, self._now), self._now)

    def serve(self, flow: K, cost: float) -> None:
        """A flow has been chosen and gets this much."""
        self._now = self[flow]
        self._tags[flow] = self._now + cost

    def forget(self, flow: K) -> None:
        """A flow is there no more."""
        self._tags.pop(flow, None)
