"""Which rows make a batch: in one queue, and in virtual time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.scheduling.simulator import HEADS, Simulator, batching

from kniv.server.scheduling.cost import CostModel
from kniv.server.scheduling.entry import Entry, bucket
from kniv.server.scheduling.levels import Level
from kniv.server.scheduling.packing import Packing
from kniv.server.scheduling.policy import Admission, BatchLimits, LaneSpec, Policy, Pool
from kniv.server.scheduling.work import Item

ROLES = ("srl_logits",)
SLOPE = 0.0001
LOTS = Admission(100_000, 1 << 30, 100_000, 1 << 30)
some = settings(max_examples=60, derandomize=True, deadline=None)
lengths = st.lists(st.integers(3, 60).map(bucket), min_size=1, max_size=40)


def taught(overhead: float) -> CostModel:
    """A model that has learnt so many seconds a batch, and ``SLOPE`` a subword."""
    model, random = CostModel(), Random(0)
    for _ in range(300):
        tokens = random.randint(8, 512)
        model.observe(tokens, overhead + SLOPE * tokens)
    return model


def packed(given: list[int], cost: CostModel, limits: BatchLimits) -> tuple[Packing, list[int]]:
    """The batch that the first of these rows begins, and the lengths of those that are left."""
    level = Level(1, Policy())
    entries = [Entry(Item(number, "lane", length, HEADS), number, 0.0, 0.0) for number, length in enumerate(given)]
    for entry in entries:
        level.add(entry)
    lead = entries[0]
    packing, queue = Packing(lead, limits, limits.tokens), level.queues[0]
    level.take(lead, 0.0)
    packing.fill(queue, cost)
    return packing, [entry.bucket for entry in entries if entry.level is level]


@given(lengths, st.sampled_from((0.0, 0.0005, 0.002, 0.02)), st.sampled_from((64, 256, 512)), st.integers(1, 12))
@some
def test_a_batch_makes_more_of_its_time_than_rows_of_one_length_would(
    given: list[int], overhead: float, tokens: int, most: int
) -> None:
    cost, limits = taught(overhead), BatchLimits(tokens, most)
    packing, _ = packed(given, cost, limits)
    taken = [entry.bucket for entry in packing.rows]
    assert packing.length == max(taken) and taken[0] == given[0]
    assert len(taken) == 1 or packing.padded <= tokens
    assert len(taken) <= most and packing.length <= limits.stretch * min(taken)
    alike = min(given.count(given[0]), max(1, min(most, tokens // given[0])))
    plain = alike * given[0] / (cost.fixed + alike * given[0])
    assert sum(taken) / (cost.fixed + packing.padded) >= plain * (1 - 1e-9)


@given(lengths, st.integers(3, 60).map(bucket))
@some
def test_whoever_is_near_joins_where_a_batch_costs_much_and_only_equals_where_it_costs_nothing(
    given: list[int], lead: int
) -> None:
    limits = BatchLimits(1 << 20, 1 << 20)
    packing, left = packed([lead, *given], taught(10.0), limits)
    shortest = min(entry.bucket for entry in packing.rows)
    assert all(max(length, packing.length) > 1.5 * min(length, shortest) for length in left)
    packing, left = packed([lead, *given], taught(0.0), limits)
    assert {entry.bucket for entry in packing.rows} == {lead} and lead not in left


def line(rows: int, length: int) -> float:
    return 0.002 + SLOPE * rows * length


def room_of(slots: int) -> Simulator:
    room = Simulator((Pool("cpu", slots),), Policy(), LOTS, cost=line, watch=False)
    room.lane("lane", LaneSpec("lane", {"cpu": slots}, batching()))
    return room


@given(st.integers(0, 10_000), st.integers(2, 60))
@some
def test_a_row_is_passed_over_once_by_fuller_batches_of_its_client(noise: int, count: int) -> None:
    """Of a client that has the machine alone, the row that has waited longest is in this batch or in the next."""
    random, room = Random(noise), room_of(1)

    def make(number: int) -> Item:
        outputs = random.choice((HEADS, ROLES))
        return Item(number, "lane", random.randint(3, 60), outputs, leads=outputs == HEADS)

    room.feed(count, make)
    room.run(until=3)
    batches = [run.items for run in room.done]
    place = {item: at for at, items in enumerate(batches) for item in items}
    waiting = sorted(room.rows.values(), key=lambda seen: (seen.admitted, seen.item.id))
    passed = 0
    for at, items in enumerate(batches[:-1]):
        began = room.rows[items[0]].dispatched[0]
        first = next(seen for seen in waiting if seen.admitted <= began and place.get(seen.item.id, at) >= at)
        if first.item.id not in items:
            passed += 1
            assert first.item.id in batches[at + 1]
            assert not first.item.leads or all(room.rows[item].item.leads for item in items)
    assert passed or count < 30, "no row ever gives way to a fuller batch"


@pytest.mark.parametrize("slots", (1, 2))
@pytest.mark.parametrize("noise", range(2))
def test_batches_of_a_mixed_queue_cost_little_more_than_sorted_ones(noise: int, slots: int) -> None:
    random, room = Random(noise), room_of(slots)
    for client in range(6):

        def make(number: int, client: int = client) -> Item:
            length = min(60, max(4, round(random.lognormvariate(3, 0.5))))
            return Item(number, "lane", length, random.choice((HEADS, ROLES)), client=client)

        room.feed(12, make)
    room.run(until=15)
    spent = sum(run.seconds for run in room.done if run.began > 2)
    ran = [seen.item for seen in room.rows.values() if seen.dispatched and seen.dispatched[0] > 2]
    assert spent < 1.08 * min(sorted_batches(ran, size) for size in (4, 6, 8))


def sorted_batches(items: list[Item], size: int) -> float:
    """Seconds of batches of so many rows, made of all rows at once, by length."""
    seconds = 0.0
    for outputs in (HEADS, ROLES):
        alike = sorted(bucket(item.length) for item in items if item.outputs == outputs)
        parts = [alike[at : at + size] for at in range(0, len(alike), size)]
        seconds += sum(line(len(part), part[-1]) for part in parts)
    return seconds
