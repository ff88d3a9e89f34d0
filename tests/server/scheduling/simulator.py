"""A virtual machine room for the scheduler: a clock, devices that take as long as they are told, and a watchful eye."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from kniv.server.scheduling.entry import bucket
from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.policy import Admission, Batching, LaneSpec, Policy, Pool, QueuePolicy
from kniv.server.scheduling.work import Dispatch, Expire, Idle, Item, Refusal, WakeAt

HEADS = ("pos_logits",)
MOMENT = 0.005  # that a slot is kept for what follows
CPU = (Pool("cpu", 1),)
USUAL, ROOMY = Policy(), Admission()


def batching(levels: int = 1, delay: float = 0.0, policies: Sequence[QueuePolicy] = ()) -> Batching:
    """Levels with these policies, the first level's first; the others have none."""
    chosen = dict(enumerate(policies, 1))
    return Batching(delay, levels, 1, {n: chosen.get(n, QueuePolicy()) for n in range(1, levels + 1)})


@dataclass
class Seen:
    """What the simulator knows of an admitted row."""

    item: Item
    admitted: float
    dispatched: list[float] = field(default_factory=list)
    running: int = 0
    alone: bool = False
    end: str = ""
    ended: float = inf


@dataclass
class Run:
    """A batch on a device."""

    lane: str
    pool: str
    items: tuple[int, ...]
    tokens: int
    began: float
    seconds: float
    abandoned: bool = False


class Simulator:
    """Drives a scheduler through virtual time and checks at every step what must always hold.

    Args:
        pools, policy, admission: the scheduler's.
        cost: seconds of a batch from its rows and padded length.
        guilty: ids of rows that make the run of their batch fail; those with an even id spoil the whole batch's
            answers, the others only their own.
        watch: whether to look at all rows that are held at each step.
        beyond: how long a batch keeps its slot after its run, as a part of that.
    """

    def __init__(
        self,
        pools: Sequence[Pool] = CPU,
        policy: Policy = USUAL,
        admission: Admission = ROOMY,
        cost: Callable[[int, int], float] = lambda rows, length: 0.001 + 0.0001 * rows * length,
        guilty: Callable[[int], bool] = lambda item: False,
        watch: bool = True,
        beyond: float = 0.0,
    ) -> None:
        self.scheduler = Scheduler(pools, policy, admission)
        self.pools = {pool.name: pool.slots for pool in pools}
        self.lanes: dict[str, LaneSpec] = {}
        self.admission = admission
        self.cost, self.guilty, self._watch, self._beyond = cost, guilty, watch, beyond
        self.now, self._order = 0.0, 0
        self.rows: dict[int, Seen] = {}
        self._held: dict[int, Seen] = {}
        self.runs: dict[int, Run] = {}
        self.done: list[Run] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._wake, self._next_id = inf, 1_000_000
        self._front: dict[object, tuple[float, int]] = {}
        self._kept: dict[tuple[str, object], tuple[int, float]] = {}
        self.on_end: Callable[[Seen], object] = lambda seen: None

    # Commands.

    def lane(self, name: str = "lane", spec: LaneSpec | None = None) -> None:
        self.lanes[name] = spec or LaneSpec(name, dict(self.pools), batching())
        self.scheduler.add_lane(self.lanes[name])

    def at(self, time: float, action: Callable[[], object]) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, action))

    def admit(self, item: Item) -> Refusal | None:
        objection = self.scheduler.objection(item, self.now)
        refusal = self.scheduler.admit(item, self.now)
        assert refusal == objection
        if refusal is None:
            assert item.deadline > self.now
            if item.arrival is not None:
                for pool in self.pools:
                    self._kept.pop((pool, item.client), None)
            self.rows[item.id] = self._held[item.id] = Seen(item, self.now)
        return refusal

    def cancel(self, item: int) -> None:
        seen = self.rows.get(item)
        running = seen.running if seen is not None and not seen.end else 0
        stopped = self.scheduler.cancel(item, self.now)
        if seen is not None and not seen.end:
            self._finish(item, "cancelled")
        self._abandon(running, stopped)

    # Time.

    def run(self, until: float = inf, most: int = 1_000_000) -> None:
        """Let time pass to its end, or until there is nothing to happen any more."""
        self.pump()
        for _ in range(most):
            time = min(self._events[0][0] if self._events else inf, self._wake)
            if time > until or time == inf:
                break
            self.now = max(self.now, time)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self.pump()
        else:
            raise AssertionError("the scheduler never comes to rest")
        if until < inf:
            self.now = until

    def pump(self) -> None:
        self._wake = inf
        for _ in range(100_000):
            decision = self.scheduler.next(self.now)
            match decision:
                case Dispatch(batch, pool):
                    self._dispatch(batch.id, batch.lane, batch.items, batch.length, pool)
                case Expire(items, abandoned):
                    touched = {self.rows[item].running for item, _ in items} - {0}
                    for item, reason in items:
                        seen = self.rows[item]
                        assert seen.item.deadline <= self.now or not seen.dispatched
                        self._finish(item, reason)
                    dead = {b for b in touched if not any(self.rows[i].running == b for i in self.runs[b].items)}
                    assert set(abandoned) == dead
                    for batch in abandoned:
                        self._abandon(batch, batch)
                case WakeAt(time):
                    assert time > self.now
                    self._wake = time
                    break
                case Idle():
                    break
        else:
            raise AssertionError("the scheduler cannot make up its mind")
        self._check_rest()

    def feed(self, count: int, make: Callable[[int], Item]) -> None:
        """Keep so many rows of a kind in the scheduler from now on: each that ends is followed by another."""
        before = self.on_end

        def again(seen: Seen) -> None:
            before(seen)
            if seen.item.id in mine:
                self.at(self.now, add)

        def add() -> None:
            self._next_id += 1
            mine.add(self._next_id)
            assert self.admit(make(self._next_id)) is None

        mine = set[int]()
        self.on_end = again
        for _ in range(count):
            add()

    def seconds(self, mine: Callable[[Item], bool], since: float = 0.0) -> float:
        """Time of batches begun since then, a batch counting for the rows that are meant."""
        return sum(
            run.seconds * sum(mine(self.rows[item].item) for item in run.items) / len(run.items)
            for run in (*self.done, *self.runs.values())
            if run.began >= since
        )

    # What must hold.

    def _dispatch(self, number: int, lane: str, items: tuple[int, ...], length: int, pool: str) -> None:
        rows, spec = [self.rows[item] for item in items], self.lanes[lane]
        lengths = [seen.item.length for seen in rows]
        assert len(set(items)) == len(items) >= 1
        assert length == max(map(bucket, lengths))
        assert {seen.item.lane for seen in rows} == {lane}
        assert len({seen.item.outputs for seen in rows}) == 1
        assert all(not seen.end and not seen.running for seen in rows), "dispatched what is running or has ended"
        assert all(seen.item.deadline > self.now for seen in rows), "dispatched after its deadline"
        if len(rows) > 1:
            assert len(rows) <= spec.limits.rows
            assert len(rows) * length <= spec.limits.tokens
            assert length <= spec.limits.stretch * min(lengths)
        for seen in rows:
            self._check_order(seen)
            seen.running = number
            seen.dispatched.append(self.now)
        seconds = self.cost(len(items), length)
        self.runs[number] = Run(lane, pool, items, length * len(items), self.now, seconds)
        assert sum(run.pool == pool for run in self.runs.values()) <= self.pools[pool]
        assert sum(run.pool == pool and run.lane == lane for run in self.runs.values()) <= spec.instances[pool]
        self.at(self.now + (1 + self._beyond) * seconds, lambda: self._complete(number))

    def _check_order(self, seen: Seen) -> None:
        """One client's rows of one kind and shape go in the order in which they came, unless they are run again."""
        item = seen.item
        timeout = self.lanes[item.lane].batching.policies[self.level(item)].timeout
        if seen.dispatched or timeout or item.timeout:
            return
        key = (item.lane, item.client, self.level(item), item.final, item.outputs, bucket(item.length))
        place = (seen.admitted if item.arrival is None else item.arrival, item.id)
        before = self._front.get(key)
        if item.arrival is None:
            assert before is None or before < place, "a newcomer before an older row of its client"
            self._front[key] = place

    def level(self, item: Item) -> int:
        given = self.lanes[item.lane].batching
        return min(item.level or given.default_level, given.levels)

    def _complete(self, number: int) -> None:
        run = self.runs.pop(number)
        self.done.append(run)
        bad = [item for item in run.items if self.guilty(item)]
        spoilt = run.abandoned or any(item % 2 == 0 for item in bad)
        suspects = run.items if spoilt else bad
        result = self.scheduler.complete(number, self.now, run.seconds, suspects)
        here = {item for item in run.items if self.rows[item].running == number}
        assert set(result.answered) == here - set(suspects)
        assert set(result.failed) == (here & set(suspects) if len(run.items) == 1 else set())
        assert not here or not run.abandoned
        for item in here:
            self.rows[item].running = 0
        for item in result.failed:
            assert self.guilty(item), "an innocent row failed"
            self._finish(item, "failed")
        for item in result.answered:
            row = self.rows[item].item
            if row.leads:
                self._kept[run.pool, row.client] = self.level(row), self.now + MOMENT
            self._finish(item, "answered")

    def _finish(self, item: int, how: str) -> None:
        seen = self.rows[item]
        assert not seen.end, f"row {item} ends twice: {seen.end}, then {how}"
        seen.end, seen.ended, seen.running = how, self.now, 0
        del self._held[item]
        self.on_end(seen)

    def _abandon(self, batch: int, stopped: int | None) -> None:
        """A batch is stopped when its last row goes, and only then."""
        if not batch:
            assert stopped is None
            return
        dead = not any(self.rows[item].running == batch for item in self.runs[batch].items)
        assert (stopped == batch) == dead
        self.runs[batch].abandoned = dead

    def _check_rest(self) -> None:
        """No slot is idle while something that could run waits, but for an open window or what follows an answer."""
        if not self._watch:
            return
        held = list(self._held.values())
        assert self.scheduler.items == len(held)
        assert self.scheduler.bytes == sum(seen.item.size for seen in held)
        oldest: dict[str, float] = {}
        top: dict[str, int] = {}
        for seen in held:
            assert seen.item.deadline > self.now, "a row outlives its deadline"
            if not seen.running:
                came = seen.admitted if seen.item.arrival is None else seen.item.arrival
                oldest[seen.item.lane] = min(came, oldest.get(seen.item.lane, inf))
                top[seen.item.lane] = min(self.level(seen.item), top.get(seen.item.lane, 99))
        used = [(run.pool, run.lane) for run in self.runs.values()]
        for lane, came in oldest.items():
            spec = self.lanes[lane]
            for pool, instances in spec.instances.items():
                free = self.pools[pool] - sum(name == pool for name, _ in used)
                if not free or used.count((pool, lane)) >= instances:
                    continue
                kept = [until for (at, _), (n, until) in self._kept.items() if at == pool and n < top[lane]]
                if sum(until > self.now for until in kept) >= free:
                    # A window may be open for longer than the slot is kept.
                    assert self._wake <= max(*kept, came + spec.batching.max_queue_delay), "a slot kept too long"
                    continue
                assert spec.batching.max_queue_delay, f"{pool} idles while {lane} waits"
                assert self._wake <= came + spec.batching.max_queue_delay, "a window open too long"

    def check_over(self) -> None:
        """Everything has ended and nothing is held."""
        assert all(seen.end for seen in self.rows.values())
        assert (self.scheduler.items, self.scheduler.bytes, self.scheduler.running) == (0, 0, 0)
