"""Counting what is held, in all and of each client."""

from __future__ import annotations

from collections.abc import Hashable

from kniv.server.scheduling.policy import Admission
from kniv.server.scheduling.work import Item, Reason

# Of all room, what callers who wait for it can fill; the rest is for those who would be refused.
_PATIENT_PART = 0.75


class Ledger:
    """Rows and bytes that are waiting or running.

    Args:
        limits: how much may be held. A row that is larger than a bound on bytes is taken when there is no other.
    """

    def __init__(self, limits: Admission) -> None:
        self._limits = limits
        self.items = self.bytes = 0
        self._clients: dict[Hashable, list[int]] = {}  # items, bytes

    def objection(self, item: Item) -> tuple[Reason, int] | None:
        """Why a row cannot be taken, with the rows that are in its way; None if it can."""
        limits = self._limits
        items, size = self._clients.get(item.client, (0, 0))
        if items >= limits.client_items:
            return Reason.CLIENT_QUOTA, items
        if items and size + item.size > limits.client_bytes:
            return Reason.CLIENT_BYTES, items
        part = _PATIENT_PART if item.patient else 1
        if self.items >= max(1, part * limits.items):
            return Reason.QUEUE_FULL, self.items
        if self.items and self.bytes + item.size > part * limits.bytes:
            return Reason.QUEUE_BYTES, self.items
        return None

    def hold(self, item: Item) -> None:
        """A row is taken."""
        held = self._clients.setdefault(item.client, [0, 0])
        held[0] += 1
        held[1] += item.size
        self.items += 1
        self.bytes += item.size

    def release(self, item: Item) -> None:
        """A row that was taken has ended."""
        held = self._clients[item.client]
        held[0] -= 1
        held[1] -= item.size
        if not held[0]:
            del self._clients[item.client]
        self.items -= 1
        self.bytes -= item.size

    @property
    def clients(self) -> int:
        """Clients of which something is held."""
        return len(self._clients)
