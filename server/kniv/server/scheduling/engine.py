"""The scheduler's owner: carries out on the event loop and in threads what it decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from kniv.server.changes import Changes
from kniv.server.errors import InferenceError, OverloadedError, StoppingError
from kniv.server.scheduling.execute import Executed, Runner
from kniv.server.scheduling.handle import Lane
from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.observe import Observer
from kniv.server.scheduling.patience import Patience
from kniv.server.scheduling.pending import Pending, dropped, handed_back, refused, stranded
from kniv.server.scheduling.policy import Admission, Batching, BatchLimits, LaneSpec, Policy, Pool
from kniv.server.scheduling.row import Done, Row
from kniv.server.scheduling.runs import Run, Runs
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.watchdog import RunBound
from kniv.server.scheduling.work import Dispatch, Expire, Hang, Idle, Stop, WakeAt

T = TypeVar("T")

log = logging.getLogger(__name__)

_BOUND = RunBound()
_ALL = 1 << 30  # instances where only the pool's slots are a bound
_OFFERS = 16  # rows waiting for room that are looked at in one go, and twice as many as have ended


class Engine:
    """Owns a scheduler; to be used on one event loop only.

    Args:
        pools: devices and their slots.
        executor: threads of the runs, at least as many as there are slots.
        policy: how rows share.
        admission: how much may be held.
        clock: seconds that never go back.
        bound: how long a run may take.

    Attributes:
        changes: told when a run is found to hang, and when one that hung has returned.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        executor: Executor,
        policy: Policy,
        admission: Admission,
        clock: Callable[[], float] = time.monotonic,
        bound: RunBound = _BOUND,
    ) -> None:
        self._scheduler = Scheduler(pools, policy, admission, bound)
        self.changes = Changes()
        self._runs = Runs(executor, self._ran)
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._rows: dict[int, Pending[Any]] = {}
        self._patience: Patience[Pending[Any]] = Patience()
        self._submitted = self._ended = self._opened = 0
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing = self._over_time = False
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

    @property
    def hung(self) -> int:
        """Batches that hang: their threads may never end."""
        return self._scheduler.hung

    def hangs(self, lane: Lane) -> bool:
        """See :attr:`Lane.hangs`."""
        return self._scheduler.has_lane(lane.spec.name) and not self._scheduler.serves(lane.spec.name)

    @property
    def lanes(self) -> list[Lane]:
        """Those that are open, or closed and not yet empty."""
        return list(self._lanes.values())

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
        if self._over_time or (self._closing and urgency.arrival is None):
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

    def hand_back(self) -> None:
        """There is no time left: let all rows fail with StoppingError, and take none any more."""
        self._closing = self._over_time = True
        held = list(self._rows.values())
        for pending in (*held, *self._patience.clear()):
            pending.settle(handed_back())
        for pending in held:
            self._give_up(pending)
        self._wake()

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
                    rows = tuple(self._rows[number] for number in batch.items)
                    for pending in rows:
                        pending.begins(now)
                    self._runs.start(Run(batch, pool, self._lanes[batch.lane], rows, now))
                case Expire(items, abandoned):
                    for number, reason in items:
                        pending = self._rows.pop(number)
                        pending.lane.observer.dropped(reason)
                        pending.settle(dropped(reason))
                    for number in abandoned:
                        self._runs.abandon(number)
                    self._ended += len(items)
                case Stop(number):
                    log.warning("a run of %s takes too long and is stopped", self._runs[number].lane.name)
                    self._runs.stop(number)
                case Hang() as hang:
                    self._hang(hang)
                case WakeAt(then):
                    self._timer = asyncio.get_running_loop().call_later(max(0.0, then - now), self._wake)
                    return
                case Idle():
                    return

    def _take(self, pending: Pending[Any], refuse: bool = False) -> bool:
        """Admit a row, or let it fail (with ``refuse``, for want of room too); whether it is to wait no longer."""
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
            if batch is not None:
                self._runs.abandon(batch)
            self._ended += 1
            pending.lane.observer.cancelled()
        else:
            self._patience.leave(pending.urgency.client, pending)
        self._wake()

    def _hang(self, hang: Hang) -> None:
        """Rows of a run that does not return have ended."""
        for number in hang.failed:
            self._rows.pop(number).settle(InferenceError("the model did not return from a run with this sentence"))
        for number in hang.stranded:
            self._rows.pop(number).settle(stranded())
        self._ended += len(hang.failed) + len(hang.stranded)
        lane = self._runs[hang.batch].lane
        log.critical("a run of %s on %s hangs: it was told to stop and did not", lane.name, hang.pool)
        lane.observer.hung(hang.pool)
        self.changes.tell()

    def _ran(self, run: Run, result: Executed) -> None:
        batch, times, hung = run.batch, result.times, self._scheduler.hung
        suspects = {batch.items[place] for place in result.suspects}
        ended = self._scheduler.complete(batch.id, self._clock(), times.input + times.infer + times.output, suspects)
        answers = dict(zip(batch.items, result.answers, strict=True))
        for number in (*ended.answered, *ended.failed):
            pending, answer = self._rows.pop(number), answers[number]
            pending.settle(answer if isinstance(answer, Exception) else Done(answer, pending.queued, times))
        for number in ended.stranded:
            self._rows.pop(number).settle(stranded())
        self._ended += len(run.rows)
        if self._scheduler.hung < hung:
            log.warning("a run of %s on %s that hung has returned", run.lane.name, run.pool)
            self.changes.tell()
        self._pump()
        run.lane.observer.ran(run.report(result))
