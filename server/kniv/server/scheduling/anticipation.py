"""Slots kept free for a moment, for what follows from an answer just given."""

from __future__ import annotations

from collections.abc import Hashable

# From an answer to the rows that follow from it, the event loop runs a few times; a busy one needs some milliseconds.
_MOMENT = 0.005


class Anticipation:
    """Rows that are expected on a device, though they are not here yet.

    A turn's frames can be asked for only once its verbs are known. If less urgent work took the slot that the answer
    leaves, the turn would wait twice for a batch to end. Holding a resource idle for the one who is likely to ask
    next is anticipatory scheduling (Iyer and Druschel, SOSP 2001).
    """

    def __init__(self) -> None:
        self._expected: dict[Hashable, tuple[int, float]] = {}  # by client: the level, and until when

    def expect(self, client: Hashable, level: int, now: float) -> None:
        """Rows of a client and level are likely to come in a moment."""
        self._expected[client] = level, now + _MOMENT

    def met(self, client: Hashable) -> None:
        """They are here."""
        self._expected.pop(client, None)

    def free_at(self, free: int, level: int, now: float) -> float:
        """When a row of a level may have a slot: later than ``now`` while all are kept for more urgent rows.

        Args:
            free: free slots.
            level: the row's.
            now: the time.
        """
        if not self._expected:
            return now
        self._expected = {client: one for client, one in self._expected.items() if one[1] > now}
        ends = sorted(until for number, until in self._expected.values() if number < level)
        return now if len(ends) < free else ends[len(ends) - free]
