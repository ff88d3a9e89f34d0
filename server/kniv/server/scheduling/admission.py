"""Counting what is held, in all, of each client and of each account."""

from __future__ import annotations

from collections.abc import Hashable

from kniv.server.scheduling.policy import Account, Admission
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
        self._accounts: dict[Hashable, list[int]] = {}

    def objection(self, item: Item) -> tuple[Reason, int] | None:
        """Why a row cannot be taken, with the rows that are in its way; None if it can."""
        limits = self._limits
        items, size = self._clients.get(item.client, (0, 0))
        if items >= limits.client_items:
            return Reason.CLIENT_QUOTA, items
        if items and size + item.size > limits.client_bytes:
            return Reason.CLIENT_BYTES, items
        if item.account is not None and (found := self._overdrawn(item, item.account)) is not None:
            return found
        part = _PATIENT_PART if item.patient else 1
        if self.items >= max(1, part * limits.items):
            return Reason.QUEUE_FULL, self.items
        if self.items and self.bytes + item.size > part * limits.bytes:
            return Reason.QUEUE_BYTES, self.items
        return None

    def hold(self, item: Item) -> None:
        """A row is taken."""
        _add(self._clients, item.client, item.size)
        if item.account is not None:
            _add(self._accounts, item.account.name, item.size)
        self.items += 1
        self.bytes += item.size

    def release(self, item: Item) -> None:
        """A row that was taken has ended."""
        _remove(self._clients, item.client, item.size)
        if item.account is not None:
            _remove(self._accounts, item.account.name, item.size)
        self.items -= 1
        self.bytes -= item.size

    @property
    def clients(self) -> int:
        """Clients of which something is held."""
        return len(self._clients)

    @property
    def accounts(self) -> int:
        """Accounts of which something is held."""
        return len(self._accounts)

    def _overdrawn(self, item: Item, account: Account) -> tuple[Reason, int] | None:
        items, size = self._accounts.get(account.name, (0, 0))
        if 0 < account.items <= items:
            return Reason.CALLER_ROWS, items
        if items and 0 < account.bytes < size + item.size:
            return Reason.CALLER_BYTES, items
        return None


def _add(held: dict[Hashable, list[int]], name: Hashable, size: int) -> None:
    count = held.setdefault(name, [0, 0])
    count[0] += 1
    count[1] += size


def _remove(held: dict[Hashable, list[int]], name: Hashable, size: int) -> None:
    count = held[name]
    count[0] -= 1
    count[1] -= size
    if not count[0]:
        del held[name]
