from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.scheduling.simulator import batching

from kniv.server.errors import DeadlineError, InferenceError, NotReadyError, OverloadedError, StoppingError
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.execute import Switch
from kniv.server.scheduling.handle import Lane
from kniv.server.scheduling.observe import BatchReport, Observer
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy, Pool, QueuePolicy
from kniv.server.scheduling.row import Floats, Ints, Row
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.work import Drop, Reason

OUTPUTS = ("pos_logits", "arc_scores", "cls_logits")
EVIL, SICK, PLAGUE = 666, 667, 668  # fails the run; spoils its own row; spoils the batch

LENIENT, USUAL, ROOMY = QueuePolicy(), Urgency(), Admission()


class Options:
    terminate = False


class Echo:
    """Gives each row's ids back in every output, once its gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.switches: list[Options] = []
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()

    def switch(self) -> Options:
        self.switches.append(Options())
        return self.switches[-1]

    def run(
        self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...], switch: Switch
    ) -> dict[str, Floats]:
        self.begun.set()
        while not self.gate.wait(0.001):
            if switch.terminate:
                raise RuntimeError("terminated")
        self.batches.append([row[row > 0].tolist() for row in ids])
        if (ids == EVIL).any():
            raise RuntimeError("the evil row")
        assert ((ids > 0) == (mask > 0)).all()
        values = ids.astype(np.float32)
        values[ids == SICK] = np.nan
        if (ids == PLAGUE).any():
            values[:] = np.nan
        everything = {
            "pos_logits": values[..., None],
            "arc_scores": values[:, :, None] * np.ones(ids.shape[1], dtype=np.float32),
            "cls_logits": values.sum(1, keepdims=True),
        }
        return {name: everything[name] for name in outputs}


class Notes(Observer):
    def __init__(self) -> None:
        self.reports: list[BatchReport] = []
        self.refusals: list[Reason] = []
        self.drops: list[Drop] = []
        self.leavers = 0

    def ran(self, report: BatchReport) -> None:
        self.reports.append(report)

    def refused(self, reason: Reason) -> None:
        self.refusals.append(reason)

    def dropped(self, reason: Drop) -> None:
        self.drops.append(reason)

    def cancelled(self) -> None:
        self.leavers += 1


class Stage:
    """An engine with one lane over an Echo, and a clock that stands still."""

    def __init__(self, executor: ThreadPoolExecutor, slots: int, rows: int, admission: Admission) -> None:
        self.time, self.echo, self.notes = 100.0, Echo(), Notes()
        policy = Policy(wait_bound=1000)
        self.engine = Engine([Pool("cpu", slots)], executor, policy, admission, clock=lambda: self.time)
        self.rows = rows
        self.lane = self.open()

    def open(self, policy: QueuePolicy = LENIENT) -> Lane:
        limits = BatchLimits(tokens=1000, rows=self.rows, stretch=100)
        return self.engine.lane("lane", {"cpu": self.echo}, batching(2, 0.0, [policy]), limits, {}, self.notes)

    def send(self, ids: list[int], urgency: Urgency = USUAL, **more: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.lane.submit(row(ids, **more), urgency))

    async def blocked(self, ids: list[int]) -> asyncio.Task[Any]:
        """A row that runs until the gate is opened."""
        self.echo.gate.clear()
        self.echo.begun.clear()
        task = self.send(ids)
        await asyncio.to_thread(self.echo.begun.wait, 30)
        return task


@asynccontextmanager
async def stage(slots: int = 1, rows: int = 8, admission: Admission = ROOMY) -> AsyncIterator[Stage]:
    with ThreadPoolExecutor(2 * slots) as executor:
        made = Stage(executor, slots, rows, admission)
        try:
            yield made
        finally:
            made.echo.gate.set()
            await made.engine.close()
            assert (made.engine.items, made.engine.bytes, made.engine.running) == (0, 0, 0)
            assert not made.engine._owner.held() and not made.engine._owner._runs and not made.engine._patience


def row(ids: list[int], read: Callable[[dict[str, Floats]], Any] | None = None) -> Row[Any]:
    def collect(values: dict[str, Floats]) -> dict[str, Any]:
        return {name: value.tolist() for name, value in values.items()}

    return Row(np.array(ids), 0, OUTPUTS, read or collect)


async def turns(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


def run(play: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(play(), 60)

    asyncio.run(main())


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


def test_what_there_is_no_room_for_is_refused_or_waits_as_it_likes() -> None:
    async def play() -> None:
        async with stage(rows=1, admission=Admission(items=2)) as room:
            running = await room.blocked([1])
            waiting = room.send([2])
            await turns()
            with pytest.raises(OverloadedError, match="queue_full") as refused:
                await room.lane.submit(row([3]), Urgency())
            assert refused.value.retry_after > 0 and room.notes.refusals == [Reason.QUEUE_FULL]
            follows = room.send([4], Urgency(arrival=50.0))
            patient = [room.send([n], Urgency(patient=True, client=n % 2)) for n in range(10, 30)]
            leaving = patient.pop(3)
            await turns()
            assert room.engine.items == 3
            leaving.cancel()
            await turns()
            assert leaving.cancelled()
            room.echo.gate.set()
            await asyncio.gather(running, waiting, follows, *patient)
            assert room.echo.batches[:3] == [[[1]], [[4]], [[2]]]
            served = [batch[0][0] for batch in room.echo.batches[3:]]
            assert [n for n in served if n % 2] == sorted(n for n in served if n % 2)
            assert sorted(n for n in served if n % 2 == 0) == [n for n in served if n % 2 == 0]

    run(play)


def test_one_who_waits_at_its_quota_holds_up_nobody_else() -> None:
    async def play() -> None:
        async with stage(rows=1, admission=Admission(items=3, client_items=2)) as room:
            running = await room.blocked([1])
            greedy = [room.send([n], Urgency(patient=True, client="greedy")) for n in range(10, 60)]
            await turns()
            modest = [room.send([n], Urgency(patient=True, client="modest")) for n in (2, 3)]
            await turns()
            assert room.engine.items == 3
            room.echo.gate.set()
            await asyncio.gather(running, *modest, *greedy)
            served = [batch[0][0] for batch in room.echo.batches]
            assert served.index(2) < 6 and served.index(3) < 12

    run(play)


def test_who_waits_for_room_is_not_overtaken_by_a_later_row_of_its_client() -> None:
    async def play() -> None:
        async with stage(rows=1, admission=Admission(items=2)) as room:
            running, leaving = await room.blocked([1]), room.send([2])
            patient = [room.send([10], Urgency(patient=True))]
            await turns()
            leaving.cancel()
            patient.append(room.send([11], Urgency(patient=True)))
            await turns()
            room.echo.gate.set()
            await asyncio.gather(running, *patient)
            assert [batch[0][0] for batch in room.echo.batches] == [1, 10, 11]

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


def test_a_lane_that_closes_ends_what_it_has_while_another_of_its_name_serves() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            running = await room.blocked([1])
            old, waiting = room.lane, room.send([2])
            await turns()
            assert old.waiting() == {1: 1, 2: 0}
            closing = asyncio.create_task(old.close())
            await turns()
            room.lane = room.open()
            new = room.send([3])
            with pytest.raises(NotReadyError):
                await old.submit(row([4]), Urgency())
            room.echo.gate.set()
            await asyncio.gather(running, waiting, new, closing)
            assert old.waiting() == {}
            await old.close()
            with pytest.raises(NotReadyError):
                await old.submit(row([5]), Urgency(arrival=1.0))

    run(play)


def test_a_closing_engine_ends_what_it_has_and_takes_only_what_follows_from_it() -> None:
    async def play() -> None:
        async with stage() as room:
            running = await room.blocked([1])
            closing = asyncio.create_task(room.engine.close())
            await turns()
            with pytest.raises(StoppingError):
                await room.lane.submit(row([2]), Urgency())
            follows = room.send([3], Urgency(arrival=1.0))
            await turns()
            room.echo.gate.set()
            await asyncio.gather(running, follows, closing)

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
