"""A slot goes from run to run, while answers are read beside it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.scheduling.simulator import batching
from tests.server.scheduling.stage import EVIL, Echo, Notes, row, run, stage, turns

from kniv.server.errors import InferenceError, OverloadedError
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.execute import Switch
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy, Pool
from kniv.server.scheduling.row import Done, Floats, Ints
from kniv.server.scheduling.urgency import Urgency

PATIENCE = 30


class Reading:
    """Reads an answer when it may."""

    def __init__(self) -> None:
        self.begun, self.may = threading.Event(), threading.Event()

    def __call__(self, values: dict[str, Floats]) -> float:
        self.begun.set()
        assert self.may.wait(PATIENCE)
        return float(values["cls_logits"][0])

    async def under_way(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, PATIENCE)


def test_the_next_batch_runs_while_answers_are_read() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            reading = Reading()
            slow = room.send([1], read=reading)
            await reading.under_way()
            assert (await room.send([2])).value["cls_logits"] == [2]
            assert not slow.done() and room.engine.running == 0
            reading.may.set()
            assert (await slow).value == 1

    run(play)


def test_a_slot_waits_for_nobody() -> None:
    """What is next is begun while the event loop stands still and the answer before is being read."""

    async def play() -> None:
        async with stage(rows=1) as room:
            reading, begun = Reading(), threading.Event()
            first, second = await room.blocked([1]), room.send([2], read=reading)
            third = room.send([3])
            await turns()
            alone = room.echo.run

            def note(ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...], switch: Switch) -> Any:
                if (ids == 3).any():
                    begun.set()
                return alone(ids, mask, predicates, outputs, switch)

            room.echo.run = note  # type: ignore[method-assign]
            room.echo.gate.set()
            assert begun.wait(PATIENCE)  # the loop does nothing meanwhile
            assert not first.done() and not second.done()
            reading.may.set()
            await asyncio.gather(first, second, third)

    run(play)


def test_a_slot_waits_for_reading_that_falls_behind() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            readings = [Reading() for _ in range(6)]
            room.echo.gate.clear()
            rows = [room.send([number], read=reading) for number, reading in enumerate(readings, 1)]
            await turns()
            room.echo.gate.set()
            await readings[2].under_way()
            assert len(room.echo.batches) == 3
            for reading in readings:
                reading.may.set()
            assert [done.value for done in await asyncio.gather(*rows)] == [1, 2, 3, 4, 5, 6]

    run(play)


def test_a_slot_that_is_kept_for_what_follows_is_not_kept_until_the_answers_are_read() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            reading = Reading()
            room.echo.gate.clear()
            leading = room.send([1], Urgency(level=1, leads=True), read=reading)
            await asyncio.to_thread(room.echo.begun.wait, PATIENCE)
            other = room.send([2], Urgency(level=2))
            await turns()
            room.echo.gate.set()
            await reading.under_way()
            assert not other.done()
            room.time += 1
            assert (await other).value["cls_logits"] == [2]
            assert not leading.done()
            reading.may.set()
            assert (await leading).value == 1

    run(play)


def test_nothing_is_over_before_its_answers_are_read() -> None:
    async def play() -> None:
        async with stage() as room:
            reading = Reading()
            slow = room.send([1], read=reading)
            await reading.under_way()
            lane, engine = (asyncio.create_task(closing) for closing in (room.lane.close(), room.engine.close()))
            await turns()
            assert not lane.done() and not engine.done()
            reading.may.set()
            await asyncio.gather(slow, lane, engine)

    run(play)


def test_a_caller_may_leave_while_its_answer_is_read() -> None:
    async def play() -> None:
        async with stage() as room:
            reading = Reading()
            tasks = [room.send([1], read=reading), room.send([2])]
            await reading.under_way()
            tasks[0].cancel()
            await turns()
            assert tasks[0].cancelled() and room.engine.items == 0
            reading.may.set()
            assert (await tasks[1]).value["cls_logits"] == [2]
            assert [report.rows for report in room.notes.reports] == [2]

    run(play)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=6), st.booleans())
@settings(max_examples=20, deadline=None)
def test_rows_that_come_together_are_answered_together_or_fail_with_the_first(many: list[int], evil: bool) -> None:
    async def play() -> None:
        async with stage() as room:
            given_rows = [row([number]) for number in many]
            if not evil:
                done = await room.lane.submit_all(given_rows, Urgency())
                assert [one.value["cls_logits"] for one in done] == [[number] for number in many]
                assert len(room.echo.batches) == 1
                return
            with pytest.raises(InferenceError):
                await room.lane.submit_all([row([EVIL]), *given_rows], Urgency())
            assert room.engine.items == 0

    run(play)


def test_if_there_is_no_room_for_all_none_is_run() -> None:
    async def play() -> None:
        async with stage(rows=1, admission=Admission(items=3)) as room:
            running = await room.blocked([9])
            with pytest.raises(OverloadedError):
                await room.lane.submit_all([row([number]) for number in (1, 2, 3)], Urgency())
            assert room.engine.items == 1
            room.echo.gate.set()
            await running
            assert room.echo.batches == [[[9]]]

    run(play)


class Failing(Executor):
    """Has threads for so many pieces of work, then none any more; some of what it refuses it does nevertheless."""

    def __init__(self, left: int, anyway: list[bool]) -> None:
        self.left, self.anyway = left, anyway

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        if not self.left:
            if self.anyway and self.anyway.pop():
                work(*arguments, **named)
            raise RuntimeError("cannot start new thread")
        self.left -= 1
        future: Future[Any] = Future()
        future.set_result(work(*arguments, **named))
        return future


@given(st.integers(0, 12), st.lists(st.booleans(), max_size=12), st.integers(1, 12), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_row_ends_once_whenever_threads_run_out(threads: int, anyway: list[bool], rows: int, slots: int) -> None:
    async def play() -> None:
        echo, notes = Echo(), Notes()
        engine = Engine([Pool("cpu", slots)], Failing(threads, anyway), Policy(), Admission())
        lane = engine.lane("lane", {"cpu": echo}, batching(), BatchLimits(rows=2), {}, notes)
        work = (lane.submit(row([number]), Urgency()) for number in range(1, rows + 1))
        ends = await asyncio.gather(*work, return_exceptions=True)
        await engine.close()
        assert (engine.items, engine.bytes, engine.running) == (0, 0, 0)
        for number, end in enumerate(ends, 1):
            assert isinstance(end, (InferenceError, Done))
            assert isinstance(end, InferenceError) or end.value["cls_logits"] == [number]

    run(play)
