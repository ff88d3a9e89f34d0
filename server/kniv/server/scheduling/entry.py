"""A row while the scheduler has it."""

from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING

from kniv.server.scheduling.work import Item

if TYPE_CHECKING:
    from kniv.server.scheduling.fairness import FairQueue, Strand
    from kniv.server.scheduling.levels import Level


class State(IntEnum):
    """Where a row is in its life."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2


class Entry:
    """An admitted row.

    Attributes:
        item: what was admitted.
        arrival: when it came, or the work that it continues.
        place: its place among rows that wait for the same, the smallest first.
        bucket: subwords that it is padded to when it runs alone.
        expires: when something is to happen to it: its queue timeout or its deadline.
        passed: whether it has once let a fuller batch of its client go first.
        late: whether its queue timeout has passed and its level's policy lets it wait on.
        state: where it is.
        level, queue, strand: where it waits.
        batch: what it runs in.
    """

    __slots__ = (
        "arrival",
        "batch",
        "bucket",
        "expires",
        "item",
        "late",
        "level",
        "passed",
        "place",
        "queue",
        "state",
        "strand",
    )

    def __init__(self, item: Item, number: int, now: float, timeout: float) -> None:
        self.item = item
        # What continues earlier work goes before what came with that.
        self.arrival, tie = (now, number) if item.arrival is None else (min(item.arrival, now), 0)
        self.place = (self.arrival, tie)
        self.bucket = bucket(item.length)
        self.expires = min(item.deadline, now + timeout if timeout else inf)
        self.late = self.passed = False
        self.state = State.WAITING
        self.level: Level | None = None
        self.queue: FairQueue | None = None
        self.strand: Strand | None = None
        self.batch = 0


def bucket(length: int) -> int:
    """A length rounded up to four significant bits, so to no more than 9/8 of it.

    Padded lengths take few values (40 up to 128), so that what the runtime keeps for each shape stops growing.
    """
    step = 1 << max(0, length.bit_length() - 4)
    return -(-length // step) * step
