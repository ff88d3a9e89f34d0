"""Batches that have been given to a device and have not returned: those that run, and those that hang."""

from __future__ import annotations

from dataclasses import dataclass

from kniv.server.scheduling.device import Device
from kniv.server.scheduling.entry import Entry, State
from kniv.server.scheduling.lane import Formed, Lane
from kniv.server.scheduling.watchdog import Overdue, RunBound, Watchdog
from kniv.server.scheduling.work import Batch, Dispatch


@dataclass(slots=True, eq=False)
class Running:
    """A batch on a device.

    Attributes:
        lane, device: what runs it, and where.
        entries: its rows.
        tokens: their subwords, padding included.
        wanted: how many of them have not ended early.
        began: when it was given its slot.
        hung: whether it is known to hang.
    """

    lane: Lane
    device: Device
    entries: list[Entry]
    tokens: int
    wanted: int
    began: float
    hung: bool = False


class Dispatched:
    """Keeps the slots and instances that batches take, and watches how long they take.

    Args:
        bound: how long a run may take.
    """

    def __init__(self, bound: RunBound) -> None:
        self._watchdog = Watchdog(bound)
        self._batches: dict[int, Running] = {}
        self._count = 0

    @property
    def running(self) -> int:
        """Batches that run."""
        return sum(not batch.hung for batch in self._batches.values())

    @property
    def hung(self) -> int:
        """Batches that hang."""
        return sum(batch.hung for batch in self._batches.values())

    def begin(self, lane: Lane, device: Device, formed: Formed, now: float) -> Dispatch:
        """Give a batch to a device that has a slot for it."""
        self._count += 1
        number, entries = self._count, formed.rows
        device.free -= 1
        lane.running[device.name] += 1
        for entry in entries:
            entry.state, entry.batch, entry.expires = State.RUNNING, number, entry.item.deadline
        self._batches[number] = Running(lane, device, entries, formed.length * len(entries), len(entries), now)
        self._watchdog.began(number, formed.seconds, now)
        items = tuple(entry.item.id for entry in entries)
        return Dispatch(Batch(number, lane.name, items, formed.length), device.name)

    def lose(self, entry: Entry) -> int | None:
        """A running row ends early; the batch that has thereby lost its last row."""
        running = self._batches[entry.batch]
        running.wanted -= 1
        return None if running.wanted else entry.batch

    def end(self, number: int) -> Running:
        """A batch has returned, after all if it hung."""
        running = self._batches.pop(number)
        running.device.free += 1
        running.lane.running[running.device.name] -= 1
        self._watchdog.ended(number)
        if running.hung:
            running.device.returned(running.lane)
        return running

    def overdue(self, now: float) -> Overdue | None:
        """A batch that takes too long, if there is one; to be asked again until there is none."""
        return self._watchdog.look(now)

    def hang(self, number: int) -> Running:
        """A batch will not return: its slot is lost until it does."""
        running = self._batches[number]
        running.hung = True
        running.device.hung(running.lane)
        return running

    def due(self) -> float:
        """When to look for overdue ones next; ``inf`` if nothing is watched."""
        return self._watchdog.due()
