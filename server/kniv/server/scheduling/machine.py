"""The scheduler: which row runs when, where and with whom.

A pure state machine. It has no clock, no threads and no I/O: every command names the time, and its owner carries out
what it decides. See ``docs/scheduling.md`` for what it guarantees.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from kniv.server.scheduling.admission import Ledger
from kniv.server.scheduling.device import Device
from kniv.server.scheduling.effort import Effort
from kniv.server.scheduling.entry import Entry, State
from kniv.server.scheduling.heap import LazyHeap
from kniv.server.scheduling.lane import Lane
from kniv.server.scheduling.policy import Admission, LaneSpec, Policy, Pool
from kniv.server.scheduling.work import (
    Batch,
    Completion,
    Decision,
    Dispatch,
    Drop,
    Expire,
    Idle,
    Item,
    Reason,
    Refusal,
    WakeAt,
)

_PACE_WEIGHT = 0.05
_PACE_PRIOR = 0.01  # seconds a row, before anything has run
_LONGEST_RETRY = 30.0
_HOPE = 0.5  # of the time to its deadline, what a row may have to wait: its batch, and what follows from it, come after


@dataclass(slots=True, eq=False)
class _Running:
    lane: Lane
    device: Device
    entries: list[Entry]
    tokens: int
    wanted: int


class Scheduler:
    """Admits rows, forms batches of them and gives them to pools.

    Args:
        pools: the devices; where a row could run on several that are free, the first of them gets it.
        policy: how rows share.
        admission: how much may be held.
    """

    def __init__(self, pools: Sequence[Pool], policy: Policy, admission: Admission) -> None:
        self._policy = policy
        self._devices = {pool.name: Device(pool, policy) for pool in pools}
        self._slots = sum(pool.slots for pool in pools)
        self._lanes: dict[str, Lane] = {}
        self._entries: dict[int, Entry] = {}
        self._batches: dict[int, _Running] = {}
        self._ledger = Ledger(admission)
        self._expiry: LazyHeap[Entry] = LazyHeap(
            attrgetter("expires"), lambda entry: entry.state is not State.ENDED and entry.expires < inf
        )
        self._admitted = self._dispatched = 0
        self._pace = _PACE_PRIOR
        self._effort = Effort()

    def add_pool(self, pool: Pool) -> None:
        """A device joins; one that is known already is left as it is."""
        if pool.name not in self._devices:
            self._devices[pool.name] = Device(pool, self._policy)
            self._slots += pool.slots

    @property
    def items(self) -> int:
        """Rows that are waiting or running."""
        return self._ledger.items

    @property
    def bytes(self) -> int:
        """Bytes of them."""
        return self._ledger.bytes

    @property
    def running(self) -> int:
        """Batches that are running."""
        return len(self._batches)

    def waiting(self, lane: str) -> dict[int, int]:
        """Rows that wait in each level of a lane."""
        return {number: level.count for number, level in self._lanes[lane].levels.items()}

    def has_lane(self, name: str) -> bool:
        """Whether a lane is there: from its adding until it is closed and empty."""
        return name in self._lanes

    def add_lane(self, spec: LaneSpec) -> None:
        """Serve rows of a lane from now on.

        Raises:
            ValueError: there is one of this name, it names an unknown pool, or can run nowhere.
        """
        if spec.name in self._lanes:
            raise ValueError(f"there is a lane {spec.name} already")
        if not spec.instances or min(spec.instances.values()) < 1:
            raise ValueError(f"lane {spec.name} needs at least one instance on each of its pools")
        if unknown := [name for name in spec.instances if name not in self._devices]:
            raise ValueError(f"lane {spec.name}: no pool {unknown[0]}; there are: {', '.join(self._devices)}")
        lane = self._lanes[spec.name] = Lane(spec, self._policy)
        for name in spec.instances:
            self._devices[name].add(lane)

    def close_lane(self, name: str) -> None:
        """Take no new work for a lane; it goes once what it holds has ended."""
        lane = self._lanes[name]
        lane.closing = True
        self._forget_if_over(lane)

    def admit(self, item: Item, now: float) -> Refusal | None:
        """Take a row, or refuse it at once.

        A row that continues earlier work is refused for its deadline only: half-done work that is thrown away would
        cost most when there is least to spare.

        Returns:
            None if it is taken.

        Raises:
            ValueError: a row of this id is here.
        """
        if item.id in self._entries:
            raise ValueError(f"there is a row {item.id} already")
        lane = self._lanes.get(item.lane)
        if lane is None or (lane.closing and item.arrival is None):
            return Refusal(Reason.LANE_CLOSED)
        if item.deadline <= now:
            return Refusal(Reason.EXPIRED)
        number = lane.level_of(item.level)
        if item.arrival is None and (refusal := self._objection(item, lane, number, now)) is not None:
            return refusal
        self._admitted += 1
        entry = Entry(item, self._admitted, now, lane.timeout(number, item.timeout))
        self._entries[item.id] = entry
        self._ledger.hold(item)
        lane.arrived(now)
        lane.held += 1
        lane.add(number, entry)
        if entry.expires < inf:
            self._expiry.push(entry)
        return None

    def cancel(self, item: int, now: float) -> int | None:
        """A row is not wanted any more; one that has ended is passed over.

        Returns:
            The id of the running batch that has thereby lost its last row, and is to be stopped.
        """
        entry = self._entries.get(item)
        return None if entry is None else self._give_up(entry)

    def next(self, now: float) -> Decision:
        """What to do now; to be asked again until there is nothing to do."""
        if (expired := self._expire(now)) is not None:
            return expired
        wake = inf
        for device in self._devices.values():
            if not device.free:
                continue
            turn, until = device.turn(now)
            wake = min(wake, until)
            if turn is None:
                continue
            lane = turn.lane
            formed = lane.form(device.name, turn.level, now, device.room(lane), turn.others)
            device.served(turn, formed.seconds)
            return self._dispatch(lane, device, formed.rows, formed.length)
        first = self._expiry.first()
        if first is not None:
            wake = min(wake, first.expires)
        return Idle() if wake == inf else WakeAt(wake)

    def complete(self, batch: int, now: float, seconds: float, suspects: Collection[int] = ()) -> Completion:
        """A batch has run.

        Args:
            batch: its id.
            now: the time.
            seconds: what it took.
            suspects: ids of rows that have no answer, because the run failed or what came out is not finite. They
                are run again in two halves, so that in the end those fail that fail alone.
        """
        running = self._batches.pop(batch)
        lane, device, entries = running.lane, running.device, running.entries
        device.free += 1
        lane.running[device.name] -= 1
        if not suspects and running.wanted:
            lane.cost(device.name, entries[0].item.outputs).observe(running.tokens, seconds)
            self._pace += _PACE_WEIGHT * (seconds / len(entries) - self._pace)
            self._effort.spent(seconds, sum(entry.item.arrival is None for entry in entries))
        here = [entry for entry in entries if entry.state is State.RUNNING]
        bad = [entry for entry in here if entry.item.id in suspects]
        answered = tuple(entry.item.id for entry in here if entry.item.id not in suspects)
        failed: tuple[int, ...] = ()
        if bad and len(entries) == 1:
            failed = (bad[0].item.id,)
        elif bad:
            half = (len(bad) + 1) // 2
            for group in (bad[:half], bad[half:]):
                if group:
                    lane.add_suspects(lane.level_of(entries[0].item.level), group)
        for item in (*answered, *failed):
            self._end(self._entries[item])
        self._forget_if_over(lane)
        return Completion(answered, failed)

    def _objection(self, item: Item, lane: Lane, number: int, now: float) -> Refusal | None:
        most = lane.policy_of(number).max_queue_size
        waiting = lane.levels[number].count
        if most and waiting >= most:
            reason, ahead = Reason.LEVEL_FULL, waiting
        elif (found := self._ledger.objection(item)) is not None:
            reason, ahead = found
        else:
            return self._too_late(item, number, now)
        # Half of them gone is room enough, and the machine is not idle by then.
        return Refusal(reason, min(ahead * self._pace / self._slots / 2, _LONGEST_RETRY))

    def _too_late(self, item: Item, number: int, now: float) -> Refusal | None:
        """Refuse a row at once that would most likely be given up in the queue, or too late to be of use.

        Under overload this keeps what is admitted useful: rows that wait until they expire would otherwise keep
        the next ones waiting as long.
        """
        if item.deadline == inf:
            return None
        ahead = sum(lane.ahead(number, item.client) for lane in self._lanes.values())
        wait, hope = ahead * self._effort.seconds / self._slots, _HOPE * (item.deadline - now)
        return Refusal(Reason.TOO_LATE, min(wait - hope, _LONGEST_RETRY)) if wait > hope else None

    def _dispatch(self, lane: Lane, device: Device, entries: list[Entry], length: int) -> Dispatch:
        self._dispatched += 1
        number = self._dispatched
        device.free -= 1
        lane.running[device.name] += 1
        for entry in entries:
            entry.state, entry.batch, entry.expires = State.RUNNING, number, entry.item.deadline
        self._batches[number] = _Running(lane, device, entries, length * len(entries), len(entries))
        return Dispatch(Batch(number, lane.name, tuple(entry.item.id for entry in entries), length), device.name)

    def _expire(self, now: float) -> Expire | None:
        ended: list[tuple[int, Drop]] = []
        abandoned: list[int] = []
        while (entry := self._expiry.first()) is not None and entry.expires <= now:
            item, lane = entry.item, self._lanes[entry.item.lane]
            if item.deadline > now and lane.policy_of(lane.level_of(item.level)).on_timeout == "delay":
                lane.remove(entry)
                entry.late, entry.expires = True, item.deadline
                lane.add(lane.level_of(item.level), entry)
                continue
            ended.append((item.id, Drop.DEADLINE if item.deadline <= now else Drop.TIMEOUT))
            if (batch := self._give_up(entry)) is not None:
                abandoned.append(batch)
        return Expire(tuple(ended), tuple(abandoned)) if ended else None

    def _give_up(self, entry: Entry) -> int | None:
        """End a row early; the running batch that has lost its last row by it."""
        last = None
        if entry.state is State.WAITING:
            self._lanes[entry.item.lane].remove(entry)
        else:
            running = self._batches[entry.batch]
            running.wanted -= 1
            last = None if running.wanted else entry.batch
        self._end(entry)
        return last

    def _end(self, entry: Entry) -> None:
        entry.state = State.ENDED
        del self._entries[entry.item.id]
        self._ledger.release(entry.item)
        lane = self._lanes[entry.item.lane]
        lane.held -= 1
        self._forget_if_over(lane)

    def _forget_if_over(self, lane: Lane) -> None:
        # A batch that nobody waits for still runs on the lane's model.
        if lane.closing and not lane.held and not any(lane.running.values()) and lane.name in self._lanes:
            del self._lanes[lane.name]
            for name in lane.spec.instances:
                self._devices[name].forget(lane)
