"""Rows that end before they are answered: their callers leave, or their time is up."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.server.scheduling.simulator import batching
from tests.server.scheduling.stage import Echo, row, run, stage, turns

from kniv.server.errors import DeadlineError
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.observe import Observer
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy, Pool, QueuePolicy
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.work import Drop


def test_a_caller_that_leaves_the_queue_takes_nobody_along() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            running = await room.blocked([1])
            leaving, staying = room.send([2]), room.send([3])
            await turns()
            leaving.cancel()
            await turns()
            assert leaving.cancelled() and room.engine.items == 2 and room.notes.leavers == 1
            room.echo.gate.set()
            await asyncio.gather(running, staying)
            assert room.echo.batches == [[[1]], [[3]]]

    run(play)


def test_a_batch_is_stopped_when_all_its_callers_have_gone_and_not_before() -> None:
    async def play() -> None:
        async with stage() as room:
            room.echo.gate.clear()
            tasks = [room.send([n]) for n in (1, 2)]
            await asyncio.to_thread(room.echo.begun.wait, 30)
            tasks[0].cancel()
            await turns()
            assert not room.echo.switches[0].terminate
            tasks[1].cancel()
            await turns()
            assert room.echo.switches[0].terminate
            room.echo.begun.clear()
            room.echo.gate.set()
            assert (await room.send([3])).value["cls_logits"] == [3]
            assert room.echo.batches[-1] == [[3]]

    run(play)


def test_a_deadline_ends_a_row_that_waits_and_one_that_runs() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            room.echo.gate.clear()
            running = room.send([1], Urgency(deadline=101.0))
            await asyncio.to_thread(room.echo.begun.wait, 30)
            waiting, other = room.send([2], Urgency(deadline=102.0)), room.send([3])
            await turns()
            room.time = 101.5
            again = room.send([4])
            with pytest.raises(DeadlineError, match="deadline"):
                await running
            assert room.echo.switches[0].terminate and not waiting.done()
            room.time = 102.0
            room.send([5], Urgency(deadline=102.0)).add_done_callback(lambda task: task.exception())
            with pytest.raises(DeadlineError):
                await waiting
            room.echo.gate.set()
            await asyncio.gather(other, again)
            assert room.echo.batches[-2:] == [[[3]], [[4]]]
            assert room.notes.drops == [Drop.DEADLINE, Drop.DEADLINE]

    run(play)


def test_a_deadline_needs_nobody_to_remind_of_it() -> None:
    async def play() -> None:
        with ThreadPoolExecutor(1) as executor:
            echo = Echo()
            echo.gate.clear()
            engine = Engine([Pool("cpu", 1)], executor, Policy(), Admission())
            lane = engine.lane("lane", {"cpu": echo}, batching(), BatchLimits(), {}, Observer())
            with pytest.raises(DeadlineError):
                await lane.submit(row([1]), Urgency(deadline=engine.now() + 0.01))
            await engine.close()

    run(play)


def test_a_queue_timeout_says_so() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            await room.lane.close()
            room.lane = room.open(QueuePolicy(timeout=1.0))
            running = await room.blocked([1])
            waiting = room.send([2])
            await turns()
            room.time += 2
            last = room.send([3])
            with pytest.raises(DeadlineError, match="queue timeout"):
                await waiting
            room.echo.gate.set()
            await asyncio.gather(running, last)

    run(play)
