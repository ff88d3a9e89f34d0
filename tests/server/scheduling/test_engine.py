"""Rows through the engine: what runs with what, where, and what each gets back."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.scheduling.simulator import batching
from tests.server.scheduling.stage import EVIL, OUTPUTS, PLAGUE, SICK, USUAL, Stage, row, run, stage, turns

from kniv.server.errors import InferenceError
from kniv.server.scheduling.policy import Admission, BatchLimits, Pool
from kniv.server.scheduling.row import Floats, Row
from kniv.server.scheduling.urgency import Urgency

ids = st.lists(st.integers(1, 600), min_size=1, max_size=12)
mixed = st.lists(st.one_of(ids, ids, st.sampled_from(([1, EVIL], [SICK], [2, 3, PLAGUE]))), min_size=1, max_size=20)


@given(mixed, st.integers(1, 3), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_each_row_gets_its_own_answer_and_only_the_guilty_fail(many: list[list[int]], slots: int, rows: int) -> None:
    async def play() -> None:
        async with stage(slots, rows) as room:
            done = await asyncio.gather(*(room.send(one) for one in many), return_exceptions=True)
            for given_ids, answer in zip(many, done, strict=True):
                if max(given_ids) > 600:
                    assert isinstance(answer, InferenceError)
                    continue
                assert not isinstance(answer, BaseException), answer
                assert [value for (value,) in answer.value["pos_logits"]] == given_ids
                assert np.shape(answer.value["arc_scores"]) == (len(given_ids), len(given_ids))
                assert answer.value["cls_logits"] == [sum(given_ids)]
                assert answer.queued >= 0 and answer.computed > 0
            assert sum(report.rows for report in room.notes.reports) == sum(map(len, room.echo.batches))
            assert all(report.tokens <= report.padded_tokens for report in room.notes.reports)

    run(play)


def test_rows_sent_together_run_together() -> None:
    async def play() -> None:
        async with stage() as room:
            await asyncio.gather(*(room.send([n]) for n in range(1, 9)))
            assert [len(batch) for batch in room.echo.batches] == [8]
            (report,) = room.notes.reports
            assert (report.lane, report.pool, report.rows, report.padded_tokens) == ("lane", "cpu", 8, 8)
            assert report.queued == (0.0,) * 8

    run(play)


def test_a_row_whose_reading_fails_fails_alone() -> None:
    def broken(values: dict[str, Floats]) -> None:
        raise ValueError("unreadable")

    async def play() -> None:
        async with stage() as room:
            tasks = [room.send([1]), room.send([2], read=broken), room.send([3])]
            first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(second, InferenceError) and "unreadable" in str(second)
            assert first.value["cls_logits"] == [1] and third.value["cls_logits"] == [3]
            assert len(room.echo.batches) == 1

    run(play)


def test_outputs_are_the_same_work_in_any_order() -> None:
    async def play() -> None:
        async with stage() as room:
            other = Row(np.array([2]), 0, OUTPUTS[::-1], set)
            first, second = room.send([1]), asyncio.create_task(room.lane.submit(other, USUAL))
            await first
            assert (await second).value == set(OUTPUTS)
            assert len(room.echo.batches) == 1

    run(play)


def test_the_more_urgent_go_first() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            tasks = [await room.blocked([9])]
            tasks += [room.send([n], Urgency(level=n)) for n in (2, 1)]
            tasks.append(room.send([3], Urgency(level=1, final=False)))
            await turns()
            room.echo.gate.set()
            await asyncio.gather(*tasks)
            assert [batch[0][0] for batch in room.echo.batches] == [9, 1, 3, 2]

    run(play)


def test_a_device_joins_later_and_only_once() -> None:
    async def play() -> None:
        async with stage() as room:
            for _ in range(2):
                room.engine.add_pool(Pool("cuda:0", 1))
            limits = BatchLimits()
            lane = room.engine.lane("gpu", {"cuda:0": room.echo}, batching(), limits, {"cuda:0": 1}, room.notes)
            assert (await lane.submit(row([5]), USUAL)).value["cls_logits"] == [5]
            assert room.notes.reports[0].pool == "cuda:0"

    run(play)


def test_without_threads_rows_fail_and_nobody_waits_for_ever() -> None:
    async def play() -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        room = Stage(executor, 1, 8, Admission())
        answers = await asyncio.gather(*(room.send([n]) for n in (1, 2, 3)), return_exceptions=True)
        assert all(isinstance(answer, InferenceError) and "could not be run" in str(answer) for answer in answers)
        await room.engine.close()

    run(play)
