"""Where rows are taken and answered, on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from math import inf
from typing import Any, TypeVar

from kniv.server.changes import Changes
from kniv.server.errors import DeadlineError, OverloadedError, StoppingError
from kniv.server.scheduling.execute import Runner
from kniv.server.scheduling.handle import Lane
from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.observe import Observer
from kniv.server.scheduling.owner import Owner
from kniv.server.scheduling.patience import Patience
from kniv.server.scheduling.pending import Answers, Pending, handed_back, refused
from kniv.server.scheduling.policy import Admission, Batching, BatchLimits, LaneSpec, Policy, Pool
from kniv.server.scheduling.row import Done, Row
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.watchdog import RunBound
from kniv.server.scheduling.work import Item

T = TypeVar("T")

_BOUND = RunBound()
_ALL = 1 << 30  # instances where only the pool's slots are a bound
_OFFERS = 16  # rows waiting for room that are looked at in one go, and twice as many as have ended


class Engine:
    """Takes rows and gives answers; to be used on one event loop only.

    Args:
        pools: devices and their slots.
        executor: threads of the runs, two for each slot: one runs, and one reads the answers of the run before.
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
        self.changes = Changes()
        scheduler = Scheduler(pools, policy, admission, bound)
        self._owner = Owner(scheduler, executor, clock, self._settle, self.changes.tell, self._wake)
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._patience: Patience[Pending[Any]] = Patience()
        self._submitted = self._ended = self._opened = 0
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing = self._over_time = False
        self._over: dict[str, asyncio.Future[None]] = {}  # by name of the lane; '' for all

    @property
    def items(self) -> int:
        """Rows that wait or run."""
        with self._owner as scheduler:
            return scheduler.items

    @property
    def bytes(self) -> int:
        """Bytes of them."""
        with self._owner as scheduler:
            return scheduler.bytes

    @property
    def running(self) -> int:
        """Batches that run."""
        with self._owner as scheduler:
            return scheduler.running

    @property
    def hung(self) -> int:
        """Batches that hang: their threads may never end."""
        with self._owner as scheduler:
            return scheduler.hung

    def hangs(self, lane: Lane) -> bool:
        """See :attr:`Lane.hangs`."""
        with self._owner as scheduler:
            return scheduler.has_lane(lane.spec.name) and not scheduler.serves(lane.spec.name)

    @property
    def lanes(self) -> list[Lane]:
        """Those that are open, or closed and not yet empty."""
        return list(self._lanes.values())

    def now(self) -> float:
        """The clock of deadlines and arrivals."""
        return self._clock()

    def add_pool(self, pool: Pool) -> None:
        """A device joins; one that is known already is left as it is."""
        with self._owner as scheduler:
            scheduler.add_pool(pool)

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
        with self._owner as scheduler:
            scheduler.add_lane(spec)
        lane = self._lanes[spec.name] = Lane(self, name, spec, runners, observer)
        return lane

    def check(self, lane: Lane, urgency: Urgency) -> None:
        """Refuse work before it is made into rows, if a row of it would be refused now, impatient as it is.

        Raises:
            OverloadedError: there is no room, or little hope that it would be answered in time.
            DeadlineError: its deadline has passed.
        """
        item = Item(0, lane.spec.name, 0, (), urgency.level, urgency.client, urgency.account, deadline=urgency.deadline)
        with self._owner as scheduler:
            refusal = scheduler.objection(item, self._clock())
        if refusal is not None and isinstance(error := refused(refusal), OverloadedError | DeadlineError):
            lane.observer.refused(refusal.reason)
            raise error

    async def submit(self, lane: Lane, rows: Sequence[Row[T]], urgency: Urgency) -> list[Done[T]]:
        """See :meth:`Lane.submit_all`."""
        if self._over_time or (self._closing and urgency.arrival is None):
            raise StoppingError("the server is about to stop")
        answers: Answers[T] = Answers(len(rows))
        now = self._clock()
        pending = [Pending(lane, row, urgency, now, answers, place) for place, row in enumerate(rows)]
        queue_up = urgency.patient and urgency.arrival is None
        for one in pending:
            if (queue_up and self._patience.has(urgency.client)) or not self._take(one, refuse=not queue_up):
                self._patience.wait(urgency.client, one)
        self._wake()
        try:
            return await answers.ready
        except BaseException:
            answers.forget()
            for one in pending:
                self._give_up(one)
            raise

    def waiting(self, lane: Lane) -> dict[int, int]:
        """Rows that wait in a lane, by level."""
        with self._owner as scheduler:
            return scheduler.waiting(lane.spec.name)

    async def close_lane(self, lane: Lane) -> None:
        """See :meth:`Lane.close`."""
        if lane.spec.name in self._lanes:
            with self._owner as scheduler:
                if scheduler.has_lane(lane.spec.name):
                    scheduler.close_lane(lane.spec.name)
            await self._when_over(lane.spec.name)

    async def close(self) -> None:
        """Take no new rows and wait until all that are here have ended; rows that continue such work are taken."""
        self._closing = True
        await self._when_over("")

    def hand_back(self) -> None:
        """There is no time left: let all rows fail with StoppingError, and take none any more."""
        self._closing = self._over_time = True
        held = self._owner.held()
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
            if self._owner.over(name) and (name or not self._patience):
                self._lanes.pop(name, None)
                self._over.pop(name).set_result(None)

    def _decide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = self._owner.look()
        if wake < inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake - self._clock()), self._wake)

    def _take(self, pending: Pending[Any], refuse: bool = False) -> bool:
        """Admit a row, or let it fail (with ``refuse``, for want of room too); whether it is to wait no longer."""
        if pending.answers.ready.done():
            return True
        self._submitted += 1
        refusal = self._owner.admit(pending, pending.item(self._submitted, pending.lane.spec.name))
        if refusal is None:
            return True
        error = refused(refusal)
        if isinstance(error, OverloadedError) and not refuse:
            return False
        pending.lane.observer.refused(refusal.reason)
        pending.settle(error)
        return True

    def _give_up(self, pending: Pending[Any]) -> None:
        """The caller has gone, or has no use for this row any more."""
        if self._owner.give_up(pending):
            self._ended += 1
            pending.lane.observer.cancelled()
        else:
            self._patience.leave(pending.urgency.client, pending)
        self._wake()

    def _settle(self, pending: Pending[Any], answer: Done[Any] | Exception) -> None:
        self._ended += 1
        pending.settle(answer)
