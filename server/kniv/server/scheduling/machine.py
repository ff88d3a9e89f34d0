"""The scheduler: which row runs when, where and with whom.

A pure state machine. It has no clock, no threads and no I/O: every command names the time, and its owner carries out
what it decides. See ``docs/scheduling.md`` for what it guarantees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf
from operator import attrgetter

from kniv.server.scheduling.device import Device
from kniv.server.scheduling.dispatched import Dispatched
from kniv.server.scheduling.entrance import Entrance
from kniv.server.scheduling.entry import Entry, State
from kniv.server.scheduling.heap import LazyHeap
from kniv.server.scheduling.lane import Lane
from kniv.server.scheduling.policy import Admission, LaneSpec, Policy, Pool
from kniv.server.scheduling.watchdog import RunBound
from kniv.server.scheduling.work import (
    Completion,
    Decision,
    Drop,
    Expire,
    Hang,
    Idle,
    Item,
    Reason,
    Refusal,
    Stop,
    WakeAt,
)

_BOUND = RunBound()


class Scheduler:
    """Admits rows, forms batches of them and gives them to pools.

    Args:
        pools: the devices; where a row could run on several that are free, the first of them gets it.
        policy: how rows share.
        admission: how much may be held.
        bound: how long a run may take.
    """

    def __init__(self, pools: Sequence[Pool], policy: Policy, admission: Admission, bound: RunBound = _BOUND) -> None:
        self._policy = policy
        self._dispatched = Dispatched(bound)
        self._entrance = Entrance(admission)
        self._devices: dict[str, Device] = {}
        self._lanes: dict[str, Lane] = {}
        self._entries: dict[int, Entry] = {}
        self._expiry: LazyHeap[Entry] = LazyHeap(
            attrgetter("expires"), lambda entry: entry.state is not State.ENDED and entry.expires < inf
        )
        self._admitted = 0
        for pool in pools:
            self.add_pool(pool)

    def add_pool(self, pool: Pool) -> None:
        """A device joins; one that is known already is left as it is."""
        if pool.name not in self._devices:
            self._devices[pool.name] = Device(pool, self._policy)
            self._entrance.slots += pool.slots

    @property
    def items(self) -> int:
        """Rows that are waiting or running."""
        return self._entrance.ledger.items

    @property
    def bytes(self) -> int:
        """Bytes of them."""
        return self._entrance.ledger.bytes

    @property
    def running(self) -> int:
        """Batches that are running."""
        return self._dispatched.running

    @property
    def hung(self) -> int:
        """Batches that hang."""
        return self._dispatched.hung

    def serves(self, lane: str) -> bool:
        """Whether a lane is there and can run somewhere: not if runs of it, or all of its pools, hang."""
        known = self._lanes.get(lane)
        return known is not None and self._can_run(known)

    def waiting(self, lane: str) -> dict[int, int]:
        """Rows that wait in each level of a lane."""
        known = self._lanes.get(lane)
        return {number: level.count for number, level in known.levels.items()} if known else {}

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

    def objection(self, item: Item, now: float) -> Refusal | None:
        """Why a row would be refused now; None if it would be taken. Its id, length and outputs do not matter."""
        lane = self._lanes.get(item.lane)
        if lane is None or (lane.closing and item.arrival is None):
            return Refusal(Reason.LANE_CLOSED)
        if not self._can_run(lane):
            return Refusal(Reason.HUNG)
        if item.deadline <= now:
            return Refusal(Reason.EXPIRED)
        if item.arrival is not None:
            return None
        return self._entrance.objection(item, lane, self._lanes.values(), now)

    def admit(self, item: Item, now: float) -> Refusal | None:
        """Take a row, or refuse it at once.

        A row that continues earlier work is refused only when its deadline has passed or it can run nowhere: half-done
        work that is thrown away would cost most when there is least to spare.

        Returns:
            None if it is taken.

        Raises:
            ValueError: a row of this id is here.
        """
        if item.id in self._entries:
            raise ValueError(f"there is a row {item.id} already")
        if (refusal := self.objection(item, now)) is not None:
            return refusal
        if item.arrival is not None:
            for device in self._devices.values():
                device.anticipation.met(item.client)
        self._admitted += 1
        lane = self._lanes[item.lane]
        number = lane.level_of(item.level)
        entry = Entry(item, self._admitted, now, lane.timeout(number, item.timeout))
        self._entries[item.id] = entry
        self._entrance.ledger.hold(item)
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
        if (overdue := self._dispatched.overdue(now)) is not None:
            return self._hang(overdue.batch) if overdue.told else Stop(overdue.batch)
        wake = self._dispatched.due()
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
            return self._dispatched.begin(lane, device, formed, now)
        first = self._expiry.first()
        if first is not None:
            wake = min(wake, first.expires)
        return Idle() if wake == inf else WakeAt(wake)

    def complete(self, batch: int, now: float, seconds: float, suspects: Collection[int] = ()) -> Completion:
        """A batch has run.

        Args:
            batch: its id.
            now: the time.
            seconds: what its run took; the time that it had its slot is more.
            suspects: ids of rows that have no answer, because the run failed or what came out is not finite. They
                are run again in two halves, so that in the end those fail that fail alone.
        """
        running = self._dispatched.end(batch)
        lane, device, entries = running.lane, running.device, running.entries
        if running.hung:
            self._forget_if_over(lane)
            return Completion()
        if not suspects and running.wanted:
            lane.cost(device.name, entries[0].item.outputs).observe(running.tokens, seconds)
            new = sum(entry.item.arrival is None for entry in entries)
            self._entrance.effort.spent(now - running.began, len(entries), new)
        here = [entry for entry in entries if entry.state is State.RUNNING]
        bad = [entry for entry in here if entry.item.id in suspects]
        good = [entry for entry in here if entry.item.id not in suspects]
        failed, stranded = [], []
        if len(entries) == 1:
            failed = bad
        elif not self._can_run(lane):  # another batch of the lane hangs since
            stranded = bad
        else:
            half = (len(bad) + 1) // 2
            for group in filter(None, (bad[:half], bad[half:])):
                lane.add_suspects(lane.level_of(entries[0].item.level), group)
        for entry in good:
            if entry.item.leads:
                device.anticipation.expect(entry.item.client, lane.level_of(entry.item.level), now)
        for entry in (*good, *failed, *stranded):
            self._end(entry)
        self._forget_if_over(lane)
        return Completion(_ids(good), _ids(failed), _ids(stranded), len(bad))

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
            last = self._dispatched.lose(entry)
        self._end(entry)
        return last

    def _hang(self, batch: int) -> Hang:
        """A batch has not returned: end its rows, and those that have nowhere left to run."""
        running = self._dispatched.hang(batch)
        failed = [entry for entry in running.entries if entry.state is State.RUNNING]
        for entry in failed:
            self._end(entry)
        idle = {lane.name for lane in self._lanes.values() if not self._can_run(lane)}
        waiting = (entry for entry in self._entries.values() if entry.state is State.WAITING)
        stranded = [entry for entry in waiting if entry.item.lane in idle]
        for entry in stranded:
            self._give_up(entry)
        return Hang(batch, running.device.name, _ids(failed), _ids(stranded))

    def _can_run(self, lane: Lane) -> bool:
        return any(self._devices[name].serves(lane) for name in lane.spec.instances)

    def _end(self, entry: Entry) -> None:
        entry.state = State.ENDED
        del self._entries[entry.item.id]
        self._entrance.ledger.release(entry.item)
        lane = self._lanes[entry.item.lane]
        lane.held -= 1
        self._forget_if_over(lane)

    def _forget_if_over(self, lane: Lane) -> None:
        # A batch that nobody waits for still runs on the lane's model.
        if lane.closing and not lane.held and not any(lane.running.values()) and lane.name in self._lanes:
            del self._lanes[lane.name]
            for name in lane.spec.instances:
                self._devices[name].forget(lane)


def _ids(entries: Iterable[Entry]) -> tuple[int, ...]:
    return tuple(entry.item.id for entry in entries)
