from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from tests.server.scheduling.simulator import HEADS, ROOMY, Simulator, batching

from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.policy import Admission, BatchLimits, LaneSpec, Policy, Pool, QueuePolicy
from kniv.server.scheduling.work import Dispatch, Idle, Item, Reason, Refusal, WakeAt


def row(number: int, **more: object) -> Item:
    return replace(Item(number, "lane", 20, HEADS), **more)  # type: ignore[arg-type]


def room_of(*policies: QueuePolicy, admission: Admission = ROOMY, delay: float = 0.0) -> Simulator:
    room = Simulator(policy=Policy(ageing=inf), admission=admission)
    levels = batching(max(1, len(policies)), delay, policies)
    room.lane("lane", LaneSpec("lane", {"cpu": 1}, levels, BatchLimits(rows=4)))
    return room


@pytest.mark.parametrize(
    ("admission", "reason", "taken"),
    [
        (Admission(items=3), Reason.QUEUE_FULL, 3),
        (Admission(bytes=250), Reason.QUEUE_BYTES, 2),
        (Admission(client_items=3), Reason.CLIENT_QUOTA, 3),
        (Admission(client_bytes=250), Reason.CLIENT_BYTES, 2),
        (Admission(bytes=50), Reason.QUEUE_BYTES, 1),
    ],
)
def test_more_than_a_bound_allows_is_refused_at_once(admission: Admission, reason: Reason, taken: int) -> None:
    room = room_of(admission=admission)
    refusals = [room.admit(row(number, client="one", size=100)) for number in range(5)]
    assert refusals[:taken] == [None] * taken
    for refusal in refusals[taken:]:
        assert refusal is not None and refusal.reason is reason and 0 < refusal.retry_after <= 30
    other = room.admit(row(10, client="other", size=100))
    assert (other is None) == (reason in (Reason.CLIENT_QUOTA, Reason.CLIENT_BYTES))
    room.run()
    assert room.admit(row(11, client="one", size=100)) is None
    room.run()
    room.check_over()


def test_a_level_takes_no_more_than_its_policy_allows_and_counts_only_who_waits() -> None:
    room = room_of(QueuePolicy(max_queue_size=2), QueuePolicy())
    assert room.admit(row(0)) is None
    room.pump()
    assert [room.admit(row(number)) is None for number in (1, 2, 3)] == [True, True, False]
    assert room.admit(row(4, level=2)) is None


def test_work_that_has_begun_is_not_refused_for_want_of_room() -> None:
    room = room_of(QueuePolicy(max_queue_size=1), admission=Admission(items=1))
    assert room.admit(row(0)) is None
    assert room.admit(row(1)) is not None
    assert room.admit(row(2, arrival=0.0)) is None


def test_a_passed_deadline_is_refused_and_nothing_is_held() -> None:
    room = room_of()
    room.now = 5.0
    assert room.admit(row(0, deadline=5.0)) == Refusal(Reason.EXPIRED)
    room.check_over()


def test_a_closing_lane_ends_what_it_has_and_takes_nothing_new() -> None:
    room = room_of()
    for number in range(6):
        room.admit(row(number))
    room.pump()
    room.scheduler.close_lane("lane")
    assert room.admit(row(6)) == Refusal(Reason.LANE_CLOSED)
    assert room.admit(row(7, arrival=0.0)) is None
    room.run()
    assert all(seen.end == "answered" for seen in room.rows.values())
    assert not room.scheduler.has_lane("lane")
    assert room.admit(row(8, arrival=0.0)) == Refusal(Reason.LANE_CLOSED)


def test_a_lane_that_only_runs_what_nobody_waits_for_stays_until_it_is_over() -> None:
    room = room_of()
    room.admit(row(0))
    room.pump()
    room.cancel(0)
    room.scheduler.close_lane("lane")
    assert room.scheduler.has_lane("lane")
    room.run()
    assert not room.scheduler.has_lane("lane")


@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (QueuePolicy(timeout=0.5), 0.0, 0.5),
        (QueuePolicy(timeout=0.5), 0.1, 0.5),
        (QueuePolicy(timeout=0.5, allow_timeout_override=True), 0.1, 0.1),
        (QueuePolicy(timeout=0.5, allow_timeout_override=True), 0.9, 0.5),
        (QueuePolicy(allow_timeout_override=True), 0.1, 0.1),
    ],
)
def test_a_row_that_waits_past_its_timeout_is_dropped(policy: QueuePolicy, asked: float, expected: float) -> None:
    room = Simulator(cost=lambda rows, length: 10.0)
    room.lane("lane", LaneSpec("lane", {"cpu": 1}, batching(1, 0.0, [policy]), BatchLimits(rows=1)))
    room.admit(row(0))
    room.pump()
    room.admit(row(1, timeout=asked))
    room.run()
    assert (room.rows[1].end, room.rows[1].ended) == ("timeout", expected)


def test_a_row_that_may_be_delayed_is_served_after_all_that_are_within_their_time() -> None:
    room = room_of(QueuePolicy(timeout=0.1, on_timeout="delay"), QueuePolicy())
    room.cost = lambda rows, length: 0.2
    room.scheduler.add_lane(LaneSpec("other", {"cpu": 1}, batching()))
    room.lanes["other"] = LaneSpec("other", {"cpu": 1}, batching())
    room.admit(row(0, lane="other"))
    room.pump()
    room.admit(row(1, length=100))
    room.at(0.15, lambda: [room.admit(row(number)) for number in (2, 3)])
    room.at(0.15, lambda: room.admit(row(4, level=2)))
    room.run()
    order = sorted((1, 2, 3, 4), key=lambda number: room.rows[number].dispatched)
    assert order == [2, 3, 1, 4]


def test_the_window_gathers_rows_only_where_more_are_to_be_expected() -> None:
    scheduler = Scheduler([Pool("cpu", 1)], Policy(), Admission())
    scheduler.add_lane(LaneSpec("lane", {"cpu": 1}, batching(1, 0.010), BatchLimits(rows=4)))
    assert scheduler.admit(row(0), 0.0) is None
    first = scheduler.next(0.0)
    assert isinstance(first, Dispatch), "nothing has been seen to come often"
    for number in range(1, 40):
        scheduler.admit(row(number), number * 0.001)
        scheduler.cancel(number, number * 0.001)
    scheduler.complete(first.batch.id, 0.04, 0.001)
    assert scheduler.next(0.04) == Idle()
    scheduler.admit(row(100), 0.041)
    assert scheduler.next(0.041) == WakeAt(pytest.approx(0.051))
    scheduler.admit(row(101), 0.042)
    assert scheduler.next(0.042) == WakeAt(pytest.approx(0.051))
    second = scheduler.next(0.0511)
    assert isinstance(second, Dispatch) and set(second.batch.items) == {100, 101}
    scheduler.complete(second.batch.id, 0.06, 0.001)
    for number in range(102, 106):
        scheduler.admit(row(number), 0.061)
    full = scheduler.next(0.061)
    assert isinstance(full, Dispatch) and len(full.batch.items) == 4, "a full batch waits for nobody"
    scheduler.complete(full.batch.id, 0.07, 0.001)
    scheduler.admit(row(200, arrival=0.0), 0.071)
    assert isinstance(scheduler.next(0.071), Dispatch), "what continues earlier work is not held back"


def test_a_faster_pool_comes_first_and_a_slower_one_is_not_left_idle() -> None:
    room = Simulator([Pool("cuda:0", 1), Pool("cpu", 1)])
    room.lane("lane", LaneSpec("lane", {"cpu": 1, "cuda:0": 1}, batching(), BatchLimits(rows=1)))
    for number in range(2):
        room.admit(row(number))
    room.pump()
    assert [run.pool for run in room.runs.values()] == ["cuda:0", "cpu"]


@pytest.mark.parametrize(
    ("instances", "problem"),
    [({"tpu": 1}, "no pool tpu; there are: cpu"), ({}, "at least one instance"), ({"cpu": 0}, "at least one instance")],
)
def test_a_lane_that_can_run_nowhere_is_an_error(instances: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Scheduler([Pool("cpu", 1)], Policy(), Admission()).add_lane(LaneSpec("lane", instances, batching()))


def test_names_that_are_taken_are_errors() -> None:
    room = room_of()
    with pytest.raises(ValueError, match="already"):
        room.scheduler.add_lane(room.lanes["lane"])
    room.admit(row(0))
    with pytest.raises(ValueError, match="already"):
        room.scheduler.admit(row(0), 0.0)


@pytest.mark.parametrize("wrong", [{"ageing": 0.0}, {"share": 0.6}, {"share": -0.1}, {"wait_bound": 0.0}])
def test_a_policy_that_makes_no_sense_is_an_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ageing and wait_bound"):
        Policy(**wrong)
