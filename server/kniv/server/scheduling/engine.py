"""The scheduler's owner: carries out on the event loop and in threads what it decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from kniv.server.errors import OverloadedError, StoppingError
from kniv.server.scheduling.execute import Executed, Runner, Switch, execute, failed
from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.observe import BatchReport, Observer
from kniv.server.scheduling.patience import Patience
from kniv.server.scheduling.pending import Pending, dropped, refused
from kniv.server.scheduling.policy import Admission, Batching, BatchLimits, LaneSpec, Policy, Pool
from kniv.server.scheduling.row import BatchTimes, Done, Row
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.work import Batch, Dispatch, Expire, Idle, WakeAt

T = TypeVar("T")

_ALL = 1 << 30  # instances where only the pool's slots are a bound
_OFFERS = 16  # rows waiting for room that are looked at in one go, and twice as many as have ended


class Lane:
    """Where rows of one variant are answered; made by :meth:`Engine.lane`."""

    def __init__(
        self, engine: Engine, name: str, spec: LaneSpec, runners: Mapping[str, Runner], observer: Observer
    ) -> None:
        self.name, self.spec, self.runners, self.observer = name, spec, runners, observer
        self._engine = engine

    async def submit(self, row: Row[T], urgency: Urgency) -> Done[T]:
        """Wait for a row's turn and answer. Cancelling gives the row up, wherever it is.

        Raises:
            OverloadedError: there is no room, and the row is not patient.
            DeadlineError: its deadline or its level's queue timeout has passed.
            InferenceError: the model or the reading of its outputs failed on this row.
            NotReadyError: the lane is closed.
            StoppingError: the engine is closed.
        """
        return await self._engine.submit(self, row, urgency)

    def waiting(self) -> dict[int, int]:
        """Rows that wait, by level."""
        return self._engine.waiting(self)

    async def close(self) -> None:
        """Take no new rows and wait until all that are here have ended; rows that continue such work are taken."""
        await self._engine.close_lane(self)


class Engine:
    """Owns a scheduler; to be used on one event loop only.

    Args:
        pools: devices and their slots.
        executor: threads of the runs, at least as many as there are slots.
        policy: how rows share.
        admission: how much may be held.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        executor: Executor,
        policy: Policy,
        admission: Admission,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = Scheduler(pools, policy, admission)
        self._executor, self._clock = executor, clock
        self._lanes: dict[str, Lane] = {}
        self._rows: dict[int, Pending[Any]] = {}
        self._switches: dict[int, Switch] = {}
        self._patience: Patience[Pending[Any]] = Patience()
        self._submitted = self._ended = self._opened = 0
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._over: dict[str, asyncio.Future[None]] = {}  # by name of the lane; '' for all

    @property
    def items(self) -> int:
        """Rows that wait or run."""
        return self._scheduler.items

    @property
    def bytes(self) -> int:
        """Bytes of them."""
        return self._scheduler.bytes

    @property
    def running(self) -> int:
        """Batches that run."""
        return self._scheduler.running

    def now(self) -> float:
        """The clock of deadlines and arrivals."""
        return self._clock()

    def add_pool(self, pool: Pool) -> None:
        """A device joins; one that is known already is left as it is."""
        self._scheduler.add_pool(pool)

    def lane(
        self,
        name: str,
        runners: Mapping[str, Runner],
        batching: Batching,
        limits: BatchLimits,
        instances: Mapping[str, int],
        observer: Observer,
    ) -> Lane:
        """Serve rows of a variant from now on.

        Args:
            name: for reports. A lane that takes the place of another may have the same.
            runners: what runs its batches, by pool.
            batching: levels, their policies and the window.
            limits: size of a batch.
            instances: most of its batches at once on each pool; all slots of the pool where it does not say.
            observer: told what happens.

        Raises:
            ValueError: a pool is unknown, or there is none.
        """
        self._opened += 1
        most = {pool: instances.get(pool) or _ALL for pool in runners}
        spec = LaneSpec(f"{name}#{self._opened}", most, batching, limits)
        self._scheduler.add_lane(spec)
        lane = self._lanes[spec.name] = Lane(self, name, spec, runners, observer)
        return lane

    async def submit(self, lane: Lane, row: Row[T], urgency: Urgency) -> Done[T]:
        """See :meth:`Lane.submit`."""
        if self._closing and urgency.arrival is None:
            raise StoppingError("the server is about to stop")
        pending = Pending(lane, row, urgency, self._clock())
        queue_up = urgency.patient and urgency.arrival is None
        if (queue_up and self._patience.has(urgency.client)) or not self._take(pending, refuse=not queue_up):
            self._patience.wait(urgency.client, pending)
        self._wake()
        try:
            return await pending.answer
        except asyncio.CancelledError:
            self._give_up(pending)
            pending.forget()
            raise

    def waiting(self, lane: Lane) -> dict[int, int]:
        """Rows that wait in a lane, by level."""
        return self._scheduler.waiting(lane.spec.name) if lane.spec.name in self._lanes else {}

    async def close_lane(self, lane: Lane) -> None:
        """See :meth:`Lane.close`."""
        if lane.spec.name in self._lanes:
            if self._scheduler.has_lane(lane.spec.name):
                self._scheduler.close_lane(lane.spec.name)
            await self._when_over(lane.spec.name)

    async def close(self) -> None:
        """Take no new rows and wait until all that are here have ended; rows that continue such work are taken."""
        self._closing = True
        await self._when_over("")

    async def _when_over(self, name: str) -> None:
        over = self._over.setdefault(name, asyncio.get_running_loop().create_future())
        self._wake()
        await asyncio.shield(over)

    def _wake(self) -> None:
        """Look for something to do once all that is ready to run has run, so that rows sent together go together."""
        if not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        while True:
            self._decide()
            offers, self._ended = _OFFERS + 2 * self._ended, 0
            if not (self._patience and self._patience.admit(self._take, offers)):
                break
        for name in list(self._over):
            if self._is_over(name):
                self._lanes.pop(name, None)
                self._over.pop(name).set_result(None)

    def _is_over(self, name: str) -> bool:
        if name:
            return not self._scheduler.has_lane(name)
        return not (self._scheduler.items or self._scheduler.running or self._patience)

    def _decide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while True:
            now = self._clock()
            match self._scheduler.next(now):
                case Dispatch(batch, pool):
                    self._start(batch, pool, now)
                case Expire(items, abandoned):
                    for number, reason in items:
                        pending = self._rows.pop(number)
                        pending.lane.observer.dropped(reason)
                        pending.settle(dropped(reason))
                    self._terminate(abandoned)
                    self._ended += len(items)
                case WakeAt(then):
                    self._timer = asyncio.get_running_loop().call_later(max(0.0, then - now), self._wake)
                    return
                case Idle():
                    return

    def _take(self, pending: Pending[Any], refuse: bool = False) -> bool:
        """Admit a row, or let it fail; whether it needs to wait for room no longer.

        Args:
            pending: the row.
            refuse: whether it fails if there is no room.
        """
        if pending.answer.done():
            return True
        self._submitted += 1
        item = pending.item(self._submitted, pending.lane.spec.name)
        refusal = self._scheduler.admit(item, self._clock())
        if refusal is None:
            pending.number = item.id
            self._rows[item.id] = pending
            return True
        error = refused(refusal)
        if isinstance(error, OverloadedError) and not refuse:
            return False
        pending.lane.observer.refused(refusal.reason)
        pending.settle(error)
        return True

    def _give_up(self, pending: Pending[Any]) -> None:
        """The caller has gone."""
        if self._rows.pop(pending.number, None) is not None:
            batch = self._scheduler.cancel(pending.number, self._clock())
            self._terminate(() if batch is None else (batch,))
            self._ended += 1
            pending.lane.observer.cancelled()
        else:
            self._patience.leave(pending.urgency.client, pending)
        self._wake()

    def _terminate(self, batches: Sequence[int]) -> None:
        for batch in batches:
            if batch in self._switches:  # none if its run could not even begin
                self._switches[batch].terminate = True

    def _start(self, batch: Batch, pool: str, now: float) -> None:
        lane = self._lanes[batch.lane]
        rows = [self._rows[number] for number in batch.items]
        for pending in rows:
            if pending.queued < 0:
                pending.queued = now - pending.came
        runner, loop = lane.runners[pool], asyncio.get_running_loop()
        try:
            self._switches[batch.id] = switch = runner.switch()
            work = partial(execute, runner, [pending.row for pending in rows], batch.length, switch)
            run = loop.run_in_executor(self._executor, work)
        except Exception as error:  # no threads any more, or no memory
            run = loop.create_future()
            run.set_exception(error)
        run.add_done_callback(partial(self._ran, lane, pool, batch, rows))

    def _ran(
        self, lane: Lane, pool: str, batch: Batch, rows: list[Pending[Any]], run: asyncio.Future[Executed]
    ) -> None:
        self._switches.pop(batch.id, None)
        try:
            result = run.result()
        except Exception as error:
            result = failed(len(rows), "the batch could not be run", error, BatchTimes(0, 0, 0))
        times = result.times
        suspects = {batch.items[place] for place in result.suspects}
        ended = self._scheduler.complete(batch.id, self._clock(), times.input + times.infer + times.output, suspects)
        answers = dict(zip(batch.items, result.answers, strict=True))
        for number in (*ended.answered, *ended.failed):
            pending, answer = self._rows.pop(number), answers[number]
            pending.settle(answer if isinstance(answer, Exception) else Done(answer, pending.queued, times))
        self._ended += len(rows)
        report = BatchReport(
            lane=lane.name,
            pool=pool,
            outputs=rows[0].row.outputs,
            rows=len(rows),
            failed=sum(isinstance(answer, Exception) for answer in result.answers),
            tokens=sum(len(pending.row.ids) for pending in rows),
            padded_tokens=batch.length * len(rows),
            times=times,
            queued=tuple(pending.queued for pending in rows),
        )
        self._pump()
        lane.observer.ran(report)
