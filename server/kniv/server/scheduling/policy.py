"""What the scheduler is told: devices, lanes, bounds, and how rows of different urgency share them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import inf

from kniv.server.repository.config import Batching, QueuePolicy

__all__ = ["Account", "Admission", "BatchLimits", "Batching", "LaneSpec", "Policy", "Pool", "QueuePolicy"]


@dataclass(frozen=True, slots=True)
class Pool:
    """A device.

    Attributes:
        name: for example ``cpu`` or ``cuda:0``.
        slots: batches that it runs side by side.
    """

    name: str
    slots: int


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may grow; a single row that is over a limit runs alone.

    Attributes:
        tokens: padded subwords: the rows' common length, rounded up, times their number.
        rows: number of rows.
        stretch: no row is padded to more than this many times its own length.
    """

    tokens: int = 512
    rows: int = 8
    stretch: float = 1.5


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """One variant of one version of a model: rows of one lane can share a batch.

    Attributes:
        name: unique among the lanes that there are.
        instances: for each pool that can run it, the most of its batches there at once.
        batching: its levels, their policies and the window.
        limits: size of a batch.
    """

    name: str
    instances: Mapping[str, int]
    batching: Batching
    limits: BatchLimits = BatchLimits()


@dataclass(frozen=True, slots=True)
class Policy:
    """How urgent and less urgent rows share a device.

    Attributes:
        ageing: seconds: a row of level *n* that has waited *n* times as long is overdue. ``inf`` for never.
        share: part of the capacity, in 0 to 0.5, that goes to overdue rows passed over by more urgent ones or
            by other clients. 0 gives strict priorities.
        wait_bound: seconds that a batch is to take at most, so that a row of the highest level that finds all
            slots busy waits no longer for one of them. A batch has one row at least.
    """

    ageing: float = 2.0
    share: float = 0.1
    wait_bound: float = 0.050

    def __post_init__(self) -> None:
        if not (self.ageing > 0 and 0 <= self.share <= 0.5 and self.wait_bound > 0):
            raise ValueError(f"ageing and wait_bound must be positive and share in 0 to 0.5, not {self}")

    @property
    def reserve(self) -> float:
        """Seconds of service by which a claim on the share may run ahead or behind."""
        return self.share * self.ageing if self.ageing < inf else 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """What bounds the rows of several clients together, such as all the calls of one caller.

    Attributes:
        name: unique among the accounts.
        items, bytes: rows waiting or running at once, and their bytes; 0 for no bound.
    """

    name: Hashable
    items: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """What may be waiting or running at once, in all and of one client.

    Attributes:
        items, bytes: of all clients.
        client_items, client_bytes: of each.
    """

    items: int = 16384
    bytes: int = 256 << 20
    client_items: int = 4096
    client_bytes: int = 64 << 20
