from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.scheduling.simulator import HEADS, batching

from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.policy import Admission, BatchLimits, LaneSpec, Policy, Pool
from kniv.server.scheduling.watchdog import Overdue, RunBound, Watchdog
from kniv.server.scheduling.work import Completion, Dispatch, Expire, Hang, Idle, Item, Reason, Stop, WakeAt

BOUND = RunBound(floor=10.0, factor=20.0, grace=2.0)


def test_a_run_is_told_first_and_found_to_hang_after_the_grace() -> None:
    watchdog = Watchdog(BOUND)
    watchdog.began(1, 0.1, now=100.0)
    watchdog.began(2, 1.0, now=100.0)
    assert watchdog.due() == 110.0
    assert watchdog.look(109.9) is None
    assert watchdog.look(110.0) == Overdue(1, told=False)
    assert watchdog.due() == 112.0
    assert watchdog.look(112.0) == Overdue(1, told=True)
    assert watchdog.due() == 120.0  # 20 times what was expected
    watchdog.ended(2)
    assert watchdog.due() == inf


def test_who_was_held_up_blames_nobody() -> None:
    """The whole process stood still: what it finds overdue may have stood still as well."""
    watchdog = Watchdog(BOUND)
    watchdog.began(1, 0.1, now=0.0)
    assert watchdog.look(1000.0) is None
    assert watchdog.look(1002.0) == Overdue(1, told=False)
    assert watchdog.look(5000.0) is None
    assert watchdog.look(5002.0) == Overdue(1, told=True)


def test_without_a_bound_nothing_is_watched() -> None:
    watchdog = Watchdog(RunBound(floor=inf))
    watchdog.began(1, 1.0, now=0.0)
    assert watchdog.due() == inf
    assert watchdog.look(1e9) is None


@pytest.mark.parametrize("wrong", [{"floor": 0.0}, {"factor": 0.5}, {"grace": 0.0}, {"grace": inf}])
def test_bounds_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        RunBound(**wrong)


class Room:
    """A scheduler over two pools whose runs end, heed a stop or hang as they are told, in virtual time."""

    def __init__(self, slots: int) -> None:
        pools = [Pool("a", slots), Pool("b", slots)]
        self.scheduler = Scheduler(pools, Policy(), Admission(), BOUND)
        self.slots = slots
        limits = BatchLimits(rows=4)
        both = LaneSpec("both", {"a": slots, "b": slots}, batching(), limits)
        for spec in (both, LaneSpec("one", {"a": slots}, batching(), limits)):
            self.scheduler.add_lane(spec)
        self.now = 0.0
        self.runs: dict[int, tuple[tuple[int, ...], str, str]] = {}
        self.stopped: set[int] = set()
        self.hung: dict[int, tuple[str, str]] = {}
        self.ends: dict[int, str] = {}

    def end(self, items: tuple[int, ...], how: str) -> None:
        for item in items:
            assert item not in self.ends, f"row {item} ends twice"
            self.ends[item] = how

    def pump(self) -> float:
        """Do what is to be done; when to look again."""
        for _ in range(10_000):
            match self.scheduler.next(self.now):
                case Dispatch(batch, pool):
                    assert (batch.lane, pool) not in self.hung.values(), "a batch where one hangs"
                    self.runs[batch.id] = (batch.items, batch.lane, pool)
                    busy = [where for _, _, where in self.runs.values()] + [where for _, where in self.hung.values()]
                    assert busy.count(pool) <= self.slots
                case Stop(batch):
                    assert batch in self.runs and batch not in self.stopped
                    self.stopped.add(batch)
                case Hang(batch, pool, failed, stranded):
                    assert batch in self.stopped, "it was never told to stop"
                    items, lane, where = self.runs.pop(batch)
                    assert where == pool and set(failed) == set(items) - self.ends.keys()
                    self.end(failed, "hung")
                    self.end(stranded, "stranded")
                    self.hung[batch] = (lane, pool)
                case Expire():
                    raise AssertionError("no row has a deadline")
                case WakeAt(time):
                    assert time > self.now
                    return time
                case Idle():
                    assert not self.runs, "runs that nobody watches"
                    return inf
        raise AssertionError("the scheduler cannot make up its mind")

    def complete(self, batch: int, good: bool) -> None:
        items, lane, _ = self.runs.pop(batch)
        self.stopped.discard(batch)
        done = self.scheduler.complete(batch, self.now, 0.01, () if good else items)
        self.end(done.answered, "answered")
        self.end(done.failed, "failed")
        self.end(done.stranded, "stranded")
        assert not done.stranded or not self.scheduler.serves(lane)

    def give_back(self, batch: int) -> None:
        del self.hung[batch]
        done = self.scheduler.complete(batch, self.now, 0.01)
        assert done == Completion()

    def check_held(self) -> None:
        """What is held runs, or can run somewhere."""
        running = {item for items, _, _ in self.runs.values() for item in items} - self.ends.keys()
        if not any(map(self.scheduler.serves, ("both", "one"))):
            assert self.scheduler.items == len(running), "rows that nothing can run"


@given(st.data(), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_every_row_ends_once_whatever_hangs(data: st.DataObject, slots: int) -> None:
    room, number = Room(slots), 0
    for _ in range(data.draw(st.integers(1, 25))):
        due = room.pump()
        step = data.draw(st.sampled_from(("admit", "wait", "end", "return")))
        if step == "admit":
            for _ in range(data.draw(st.integers(1, 6))):
                number += 1
                lane = data.draw(st.sampled_from(("both", "one")))
                serves = room.scheduler.serves(lane)
                refusal = room.scheduler.admit(Item(number, lane, 10, HEADS), room.now)
                assert (refusal is None) == serves
                if refusal is not None:
                    assert refusal.reason is Reason.HUNG
                    room.ends[number] = "refused"
        elif step == "wait" and due < inf:
            room.now = due
        elif step == "end" and room.runs:
            batch = data.draw(st.sampled_from(sorted(room.runs)))
            room.complete(batch, good=batch not in room.stopped)
        elif step == "return" and room.hung:
            room.give_back(data.draw(st.sampled_from(sorted(room.hung))))
        room.check_held()
    # In the end all that hangs returns, and all runs end well.
    while room.hung or room.runs or room.pump() < inf:
        for batch in list(room.hung):
            room.give_back(batch)
        room.pump()
        for batch in list(room.runs):
            room.complete(batch, good=True)
    assert room.ends.keys() == set(range(1, number + 1))
    assert (room.scheduler.items, room.scheduler.running, room.scheduler.hung) == (0, 0, 0)
    assert room.scheduler.serves("both") and room.scheduler.serves("one")
    for item in range(number + 1, number + 1 + 4 * slots * 2):
        assert room.scheduler.admit(Item(item, "both", 10, HEADS), room.now) is None
    room.pump()
    assert {pool for _, _, pool in room.runs.values()} == {"a", "b"}, "a slot is lost"


def test_rows_of_a_failed_batch_are_not_run_again_where_another_hangs() -> None:
    """Rows that waited to be run again on a device that no longer serves their lane would wait for ever."""
    room = Room(slots=2)
    for item in range(1, 9):
        assert room.scheduler.admit(Item(item, "one", 10, HEADS), room.now) is None
    room.pump()
    first, second = room.runs
    room.now += 5.0
    room.complete(second, good=True)
    for item in range(9, 13):
        assert room.scheduler.admit(Item(item, "one", 10, HEADS), room.now) is None
    room.pump()
    (third,) = set(room.runs) - {first}
    for seconds in (5.0, 2.0):  # the first one is told to stop, and found to hang
        room.now += seconds
        room.pump()
    assert first in room.hung and third in room.runs
    room.complete(third, good=False)
    assert all(room.ends[item] == "stranded" for item in range(9, 13))
    assert room.scheduler.items == 0
