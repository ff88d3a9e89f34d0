"""More work than can be done in time, in virtual time: what is admitted is worth it, the rest is refused at once."""

from __future__ import annotations

from random import Random

import pytest
from tests.server.scheduling.simulator import HEADS, Seen, Simulator, batching

from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.policy import Admission, LaneSpec, Policy, Pool
from kniv.server.scheduling.work import Item, Reason

DEADLINE, FRAMES, SECONDS = 1.0, 4, 30.0
PER_TOKEN = 0.0002


class Jobs:
    """Jobs of one row and then several that follow from its answer, all in one deadline, as sentences with frames."""

    def __init__(self, rate: float, seed: int, beyond: float) -> None:
        self.random, self.rate = Random(seed), rate
        self.room = Simulator(
            policy=Policy(wait_bound=0.02), cost=lambda rows, length: PER_TOKEN * rows * length, beyond=beyond
        )
        self.room.lane("lane", LaneSpec("lane", {"cpu": 1}, batching(3)))
        self.room.on_end = self.ended
        self.left: dict[int, int] = {}
        self.in_time = self.refused = self.wasted = self.number = 0

    def run(self) -> None:
        self.room.at(0.0, self.come)
        self.room.run(until=SECONDS)

    def come(self) -> None:
        self.room.at(self.room.now + self.random.expovariate(self.rate), self.come)
        self.number += FRAMES + 1
        deadline = self.room.now + DEADLINE
        refusal = self.room.admit(Item(self.number, "lane", 16, HEADS, 2, client=self.number, deadline=deadline))
        if refusal is None:
            self.left[self.number] = FRAMES
        else:
            assert refusal.reason is Reason.TOO_LATE and refusal.retry_after > 0
            self.refused += 1

    def ended(self, seen: Seen) -> None:
        job = seen.item.id - seen.item.id % (FRAMES + 1)
        if seen.end != "answered":
            self.wasted += 1
        elif seen.item.arrival is None:
            for part in range(1, FRAMES + 1):
                item = Item(job + part, "lane", 16, ("srl_logits",), 2, job, deadline=seen.item.deadline, arrival=0.0)
                self.room.at(self.room.now, lambda item=item: self.room.admit(item))  # type: ignore[misc]
        else:
            self.left[job] -= 1
            self.in_time += not self.left[job]


@pytest.mark.parametrize("load", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("beyond", [0.0, 1.0])
def test_goodput_does_not_fall_beyond_saturation(load: float, beyond: float) -> None:
    capacity = 1 / (16 * PER_TOKEN * (FRAMES + 1) * (1 + beyond))
    jobs = Jobs(load * capacity, seed=int(10 * load), beyond=beyond)
    jobs.run()
    assert jobs.in_time >= 0.9 * capacity * SECONDS * min(load, 1.0)
    assert jobs.wasted <= 0.05 * jobs.in_time
    if load > 1.2:
        assert jobs.refused >= 0.8 * (load - 1) * capacity * SECONDS


def test_a_call_among_long_streams_is_not_refused_for_rows_that_it_overtakes() -> None:
    scheduler = Scheduler([Pool("cpu", 1)], Policy(), Admission())
    scheduler.add_lane(LaneSpec("lane", {"cpu": 1}, batching(1)))
    for number in range(3000):
        assert scheduler.admit(Item(number, "lane", 16, HEADS, client=number % 3, patient=True), 0.0) is None
    assert scheduler.admit(Item(3000, "lane", 16, HEADS, client="call", deadline=1.0), 0.0) is None
    late = scheduler.admit(Item(3001, "lane", 16, HEADS, client=0, deadline=1.0), 0.0)
    assert late is not None and late.reason is Reason.TOO_LATE


def test_callers_who_wait_for_room_leave_some_to_those_who_do_not() -> None:
    scheduler = Scheduler([Pool("cpu", 1)], Policy(), Admission(items=8))
    scheduler.add_lane(LaneSpec("lane", {"cpu": 1}, batching(1)))
    patient = [scheduler.admit(Item(number, "lane", 16, HEADS, patient=True), 0.0) for number in range(8)]
    assert [refusal is None for refusal in patient] == [True] * 6 + [False] * 2
    calls = [scheduler.admit(Item(number, "lane", 16, HEADS), 0.0) for number in range(8, 12)]
    assert [refusal is None for refusal in calls] == [True] * 2 + [False] * 2
