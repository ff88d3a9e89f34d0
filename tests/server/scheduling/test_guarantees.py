"""What docs/scheduling.md promises, on devices that are never idle, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.scheduling.simulator import HEADS, MOMENT, Seen, Simulator, batching

from kniv.server.scheduling.cost import CostModel
from kniv.server.scheduling.policy import Admission, BatchLimits, LaneSpec, Policy, Pool
from kniv.server.scheduling.work import Item

LOTS = Admission(100_000, 1 << 30, 100_000, 1 << 30)
ONE, TWO = (Pool("cpu", 1),), (Pool("cpu", 2),)
SLOPE = 0.0002
few = settings(max_examples=15, derandomize=True, deadline=None)


def linear(rows: int, length: int) -> float:
    return 0.001 + SLOPE * rows * length


def room_of(policy: Policy, *, pools: tuple[Pool, ...] = ONE, levels: int = 3, **more: object) -> Simulator:
    room = Simulator(pools, policy, LOTS, watch=False, **{"cost": linear, **more})  # type: ignore[arg-type]
    room.lane("lane", LaneSpec("lane", {pool.name: pool.slots for pool in pools}, batching(levels)))
    return room


def row(number: int, level: int = 1, client: object = "", length: int = 20, **more: object) -> Item:
    return Item(number, "lane", length, HEADS, level, client, **more)  # type: ignore[arg-type]


policies = st.builds(Policy, st.sampled_from((0.05, 0.3, 1.0)), st.sampled_from((0.05, 0.1, 0.5)), st.just(0.02))


@given(policies, st.integers(2, 3), st.integers(1, 12), st.booleans())
@few
def test_the_wait_of_a_lower_level_is_bounded_while_the_highest_is_never_idle(
    policy: Policy, level: int, count: int, busy_before: bool
) -> None:
    room = room_of(policy)
    if busy_before:  # the lower levels' share is overdrawn
        for number in range(-200, 0):
            room.admit(row(number, level))
        room.run()
    began = room.now
    room.feed(20, lambda number: row(number, 1))
    for number in range(count):
        room.admit(row(number, level))
    longest = 8 * 24 * SLOPE + 0.001
    # Until overdue, until its level has earned what it is behind, and then a batch whenever one more is earned.
    bound = policy.ageing * level + policy.reserve / policy.share + (count + 2) * longest / policy.share
    room.run(until=began + bound + 0.1)
    waits = [room.rows[number].dispatched[0] - began for number in range(count) if room.rows[number].dispatched]
    assert len(waits) == count and max(waits) <= bound
    if policy.share <= 0.1:
        assert min(waits) >= policy.ageing * level - longest, "the highest level gave way to rows that are not overdue"


@given(st.sampled_from((0.05, 0.1, 0.5)), st.sampled_from((ONE, TWO)))
@few
def test_each_level_keeps_its_share_while_all_are_never_idle(share: float, pools: tuple[Pool, ...]) -> None:
    policy = Policy(ageing=0.05, share=share, wait_bound=0.02)
    room = room_of(policy, pools=pools)
    for level in (1, 2, 3):
        room.feed(60, lambda number, level=level: row(number, level))
    warm = 3 * policy.ageing + 1
    room.run(until=warm + 5)
    whole = room.seconds(lambda item: True, warm)
    parts = [room.seconds(lambda item, level=level: item.level == level, warm) / whole for level in (1, 2, 3)]
    # The two lower levels share it evenly.
    assert parts[0] == pytest.approx(1 - share, abs=0.03)
    assert parts[1] == pytest.approx(share / 2, rel=0.25, abs=0.003)
    assert parts[2] == pytest.approx(share / 2, rel=0.25, abs=0.003)


def test_without_a_share_priorities_are_strict() -> None:
    room = room_of(Policy(ageing=0.05, share=0.0))
    room.feed(20, lambda number: row(number, 1))
    room.admit(row(1, 2))
    room.run(until=30)
    assert not room.rows[1].dispatched


def test_a_level_that_had_the_machine_claims_nothing_in_a_short_moment_of_pressure() -> None:
    room = room_of(Policy(ageing=0.1))
    room.feed(500, lambda number: row(number, 3))
    room.run(until=20)
    assert max(room.now - seen.admitted for seen in room._held.values()) > 0.3, "bulk rows must be overdue"
    for number in range(30):
        room.admit(row(number, 1))
    room.run(until=21)
    last = max(room.rows[number].dispatched[0] for number in range(30))
    between = [run for run in room.done if 20 < run.began < last and run.items[0] > 1000]
    assert not between


@given(st.integers(0, 10_000), st.sampled_from((0.004, 0.02, 0.05)), st.sampled_from((ONE, TWO)))
@few
def test_a_row_of_the_highest_level_waits_no_longer_than_the_bound_for_a_slot(
    noise: int, bound: float, pools: tuple[Pool, ...]
) -> None:
    random = Random(noise)
    room = room_of(Policy(wait_bound=bound), pools=pools)
    for level in (2, 3):
        room.feed(100, lambda number, level=level: row(number, level, length=random.randint(3, 100)))
    probes = [row(number, 1, length=random.randint(3, 100)) for number in range(40)]
    for number, probe in enumerate(probes):
        room.at(3 + number * 0.1 + random.random() * 0.05, lambda probe=probe: room.admit(probe))
    room.run(until=7.5)
    waits = [room.rows[probe.id].dispatched[0] - room.rows[probe.id].admitted for probe in probes]
    assert max(waits) <= max(bound, 1.1 * linear(1, 104)) * 1.02
    if bound == 0.05:
        assert max(run.seconds for run in room.done if run.began > 3) > 0.6 * bound, "batches are smaller than need be"


@given(st.integers(3, 100), st.integers(3, 100), st.integers(1, 4))
@few
def test_clients_that_never_stop_asking_get_the_same(first: int, second: int, more: int) -> None:
    room = room_of(Policy(), cost=lambda rows, length: SLOPE * rows * length)
    room.feed(300, lambda number: row(number, client="one", length=first))
    for other in range(more):
        room.feed(40, lambda number, other=other: row(number, client=other, length=second))
    room.run(until=8)
    got = [room.seconds(lambda item, client=client: item.client == client, 2) for client in ("one", *range(more))]
    # Padding is not charged, and rows are up to half as much longer for it.
    assert max(got) <= 1.6 * min(got)


def test_a_client_that_was_idle_has_no_claim_on_the_past() -> None:
    room = room_of(Policy())
    for number in range(10):
        room.admit(row(number, client="idle"))
    room.feed(40, lambda number: row(number, client="busy"))
    room.run(until=5)
    for number in range(10, 400):
        room.admit(row(number, client="idle"))
    room.run(until=6)
    got = [room.seconds(lambda item, client=client: item.client == client, 5) for client in ("idle", "busy")]
    assert got[0] == pytest.approx(got[1], rel=0.15)


def test_a_stream_of_one_does_not_wait_for_a_stream_of_ten_thousand() -> None:
    room = room_of(Policy())
    for number in range(10_000):
        room.admit(row(number, client="heavy", length=3 + number % 90))
    room.run(until=1)
    for number, length in ((20_000, 5), (20_001, 50), (20_002, 90)):
        room.admit(row(number, client=number, length=length))
    room.run(until=1 + 4 * 0.05)
    assert all(room.rows[number].end == "answered" for number in (20_000, 20_001, 20_002))


@given(st.integers(0, 10_000))
@few
def test_new_clients_that_keep_coming_hold_nobody_up_for_ever_and_are_forgotten(noise: int) -> None:
    random = Random(noise)
    room = room_of(Policy(ageing=0.2))
    room.feed(40, lambda number: row(number, client=number, length=random.choice((20, 50))))
    for number in range(20):
        room.admit(row(number, client="patient", length=random.choice((20, 50, 100))))
    room.run(until=15)
    assert all(room.rows[number].end == "answered" for number in range(20))
    queue = room.scheduler._lanes["lane"].levels[1].queues[0]
    assert len(queue) < 1000 and len(queue._order) < 1000


def test_a_row_that_fits_no_batch_is_not_passed_over_for_ever() -> None:
    """Two clients' short rows fill every batch between them, whoever of the two begins it."""
    room = room_of(Policy(ageing=0.2))
    room.feed(30, lambda number: row(number, client="one"))
    room.feed(30, lambda number: row(number, client="two"))
    room.admit(row(1, client="two", length=100))
    room.run(until=5)
    policy = Policy(ageing=0.2)
    bound = policy.ageing + policy.reserve / policy.share + 2 * 0.05 / policy.share
    assert room.rows[1].dispatched[0] <= bound


def test_rows_that_continue_earlier_work_go_before_their_clients_later_ones() -> None:
    room = room_of(Policy(wait_bound=0.005))
    for number in range(200):
        room.admit(row(number))
    room.run(until=0.5)
    for number in (1000, 1001):
        room.admit(row(number, arrival=0.0))
    room.run(until=0.52)
    assert all(room.rows[number].dispatched for number in (1000, 1001))


def test_what_is_begun_and_has_a_deadline_goes_before_all_new_rows_of_its_level() -> None:
    room = room_of(Policy(wait_bound=0.005), levels=2)
    for number in range(400):
        room.admit(row(number, 2, client=number % 100))
    room.run(until=0.5)
    assert sum(not seen.dispatched for seen in room.rows.values()) > 100
    room.admit(row(1000, 2, client=0, length=30, arrival=0.4, deadline=9.0))
    room.admit(row(1001, 2, client=2, length=40, arrival=0.4))
    room.admit(row(1002, 1, client=1))
    room.run(until=0.52)
    assert room.rows[1002].dispatched < room.rows[1000].dispatched
    assert not room.rows[1001].dispatched


@given(st.integers(1, 8))
@few
def test_what_follows_from_an_answer_is_charged_though_it_goes_first(follow: int) -> None:
    room = room_of(Policy(), cost=lambda rows, length: SLOPE * rows * length)

    def ended(seen: Seen) -> None:
        if seen.item.client == "many" and seen.item.arrival is None:
            for part in range(1, follow + 1):
                more = row(-10 * seen.item.id - part, client="many", arrival=seen.admitted, deadline=1e6)
                room.at(room.now, lambda more=more: room.admit(more))  # type: ignore[misc]

    room.on_end = ended
    for client in ("many", "one"):
        room.feed(40, lambda number, client=client: row(number, client=client, deadline=1e6))
    room.run(until=8)
    got = [room.seconds(lambda item, client=client: item.client == client, 2) for client in ("many", "one")]
    assert max(got) <= 1.1 * min(got)


@given(st.permutations(range(12)))
@few
def test_finals_go_before_partials_and_both_before_lower_levels(order: list[int]) -> None:
    room = room_of(Policy(ageing=inf), levels=2)
    room.admit(row(100))
    room.pump()
    for number in order:
        room.admit(row(number, level=1 + number // 6, client=number % 3, final=number % 2 == 0, length=20))
    room.run()
    ranks = [(number // 6, number % 2) for run in room.done[1:] for number in run.items]
    assert ranks == sorted(ranks)


def test_rows_are_spread_over_free_slots_where_that_is_quicker() -> None:
    quick, flat = room_of(Policy(), pools=TWO), room_of(Policy(), pools=TWO, cost=lambda rows, length: 0.02)
    for room in (quick, flat):
        for _ in range(20):  # learn what batches cost
            for _ in range(40):
                room.admit(row(len(room.rows)))
            room.run()
        count = len(room.done)
        for _ in range(6):
            room.admit(row(len(room.rows)))
        room.run()
        room.batches = sorted(len(run.items) for run in room.done[count:])  # type: ignore[attr-defined]
    assert quick.batches == [3, 3]  # type: ignore[attr-defined]
    assert flat.batches == [6]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("cost", "together"), [(linear, False), (lambda rows, length: 0.02 + 1e-6 * rows, True)])
def test_lower_levels_join_a_batch_only_where_they_cost_next_to_nothing(cost: object, together: bool) -> None:
    room = room_of(Policy(), cost=cost)
    room.feed(40, lambda number: row(number, 3))
    for number in range(50):
        room.at(1 + number * 0.1, lambda number=number: room.admit(row(number, 1)))
    room.run(until=8)
    mixed = [run for run in room.done if min(run.items) < 50 and len(run.items) > 1]
    assert bool(mixed) == together


def test_limits_of_a_batch_are_used() -> None:
    room = room_of(Policy(wait_bound=10))
    for number in range(100):
        room.admit(row(number))
    room.run()
    assert max(len(run.items) for run in room.done) == BatchLimits().rows


def test_where_one_row_takes_longer_than_the_bound_rows_that_cost_no_more_still_join() -> None:
    room = room_of(Policy(wait_bound=0.01), cost=lambda rows, length: 0.06 + 1e-6 * rows)
    random = Random(0)
    room.feed(60, lambda number: row(number, length=random.choice((10, 20, 40))))
    room.run(until=10)
    assert min(len(run.items) for run in room.done[-10:]) == BatchLimits().rows


def test_lanes_of_one_level_get_the_same_time_whatever_their_batches_take() -> None:
    room = room_of(Policy())
    room.lane("other", LaneSpec("other", {"cpu": 1}, batching(3), BatchLimits(rows=1)))
    room.feed(40, row)
    room.feed(40, lambda number: replace(row(number, length=60), lane="other"))
    room.run(until=5)
    got = [room.seconds(lambda item, lane=lane: item.lane == lane, 1) for lane in ("lane", "other")]
    assert got[0] == pytest.approx(got[1], rel=0.05)


def test_nothing_is_learnt_from_batches_that_fail() -> None:
    room = room_of(Policy(), guilty=lambda item: item < 100, cost=lambda rows, length: 1e-6 if rows > 1 else 0.01)
    for number in range(8):
        room.admit(row(number))
    room.run()
    assert room.scheduler._lanes["lane"].cost("cpu", HEADS).seconds(24) == CostModel().seconds(24)


def verbs(room: Simulator, number: int, after: float, *, found: bool = True) -> None:
    """A turn whose answer is followed, after so long, by the row of its verb if there is one."""
    before = room.on_end

    def follow(seen: Seen) -> None:
        before(seen)
        if seen.item.id == number and found:
            room.at(room.now + after, lambda: room.admit(row(number + 1, 1, number, arrival=seen.admitted)))

    room.on_end = follow
    room.admit(row(number, 1, number, leads=True))


@given(st.sampled_from((ONE, TWO)), st.floats(0.0005, 0.004), st.integers(1, 20))
@few
def test_what_follows_an_urgent_answer_finds_a_slot_free(pools: tuple[Pool, ...], after: float, turns: int) -> None:
    room = room_of(Policy(wait_bound=0.02), pools=pools)
    room.feed(60, lambda number: row(number, 2))
    for turn in range(turns):
        room.at(1 + turn * 0.1, lambda turn=turn: verbs(room, 10 * turn, after))
    room.run(until=1 + turns * 0.1)
    for turn in range(turns):
        seen = room.rows[10 * turn + 1]
        assert seen.dispatched[0] == seen.admitted


@given(st.integers(1, 3), st.integers(1, 30))
@few
def test_a_slot_is_kept_for_a_moment_only_and_not_from_equals(level: int, count: int) -> None:
    room = room_of(Policy(wait_bound=0.02))
    verbs(room, 0, 0, found=False)
    room.pump()
    for number in range(100, 100 + count):
        room.admit(row(number, level))
    room.run()
    first = min(seen.dispatched[0] for seen in room.rows.values() if seen.item.id)
    assert first == room.rows[0].ended + (MOMENT if level > 1 else 0)


def test_one_slot_is_kept_for_one_turn_and_the_other_is_not() -> None:
    room = room_of(Policy(wait_bound=0.02), pools=TWO, cost=lambda rows, length: 0.01)
    verbs(room, 0, 0, found=False)
    room.admit(row(10, 1))
    room.pump()
    for number in range(100, 200):
        room.admit(row(number, 2))
    room.run()
    begun = sorted({seen.dispatched[0] for seen in room.rows.values() if seen.item.id >= 100})
    answered = room.rows[0].ended
    assert begun[:2] == [answered, answered + MOMENT]
