"""An engine played step by step: its event loop and its threads go on in an order that is given."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any
from unittest.mock import patch

import numpy as np
from tests.server.scheduling.actors import Actor, Hands, Lock, Loop, pause
from tests.server.scheduling.simulator import HEADS, batching
from tests.server.scheduling.stage import Notes

from kniv.server.errors import ServeError
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.execute import Switch
from kniv.server.scheduling.owner import THREADS
from kniv.server.scheduling.pending import Pending
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy, Pool, QueuePolicy
from kniv.server.scheduling.row import Done, Floats, Ints, Row
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.watchdog import RunBound
from kniv.server.scheduling.work import Idle, WakeAt

EVIL = 666  # fails the run
BOUND = RunBound(floor=1.0, factor=1.0, grace=0.5)
SOON = 0.9  # seconds in all after which no run is overdue
POLICIES = (QueuePolicy(), QueuePolicy(0.2, "delay"))


@dataclass(frozen=True)
class Send:
    """Rows are submitted together."""

    client: int
    rows: tuple[tuple[int, ...], ...]
    level: int
    patient: bool
    leads: bool
    deadline: float
    ago: float | None  # seconds since the work came that they continue


@dataclass(frozen=True)
class Leave:
    """A caller goes."""

    which: int


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Let:
    """Runs may end: so many, or any number if the gate is opened."""

    runs: int
    opened: bool


@dataclass(frozen=True)
class Fail:
    """Threads cannot be started for a while; or the next runs do not hear that they are to stop."""

    refused: int
    refusal: type[Exception]
    anyway: bool
    deaf: int


@dataclass(frozen=True)
class End:
    """The lane is closed, or all rows are handed back."""

    hand_back: bool


@dataclass(frozen=True)
class Rest:
    """All do what they can."""


Act = Send | Leave | Wait | Let | Fail | End | Rest


class Options:
    terminate = False


class Play:
    """An engine whose loop and threads go on one at a time, in an order that is given.

    Args:
        slots, rows: of its pool, and of a batch.
        admission: how much may be held.
        delay: seconds of its lane's window.
        opened: whether runs may end, at first.
        order: whose turn it is, of those who can go on; over and over.
    """

    def __init__(
        self, slots: int, rows: int, admission: Admission, delay: float, opened: bool, order: Sequence[int]
    ) -> None:
        self.now, self._order, self._step = 100.0, order or [0], 0
        self._open, self._tickets, self._deaf, self._over = opened, 0, 0, False
        self.calm = True  # so that every patient row is answered
        self._prompt = not delay  # a window may be seen to be closed earlier by whoever happens to look
        self._hands, self._loop = Hands(THREADS * slots), Loop(lambda: self.now)
        self._errors: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda loop, context: self._errors.append(context))
        self._stage = Actor(self._loop.serve)
        policy, pools = Policy(wait_bound=1000, ageing=0.3), [Pool("cpu", slots)]
        self.engine = Engine(pools, self._hands, policy, admission, lambda: self.now, BOUND)
        self.engine._owner._lock = Lock()  # type: ignore[assignment]
        limits = BatchLimits(tokens=1000, rows=rows, stretch=100)
        self._lane = self.engine.lane("lane", {"cpu": self}, batching(2, delay, POLICIES), limits, {}, Notes())
        self._sent: list[tuple[Send, asyncio.Task[Any]]] = []
        self._left: set[asyncio.Task[Any]] = set()
        self._endings: list[asyncio.Task[None]] = []

    # A model.

    def switch(self) -> Options:
        pause()
        return Options()

    def run(
        self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...], switch: Switch
    ) -> dict[str, Floats]:
        deaf, self._deaf = self._deaf > 0, max(0, self._deaf - 1)
        pause(lambda: self._open or self._tickets > 0 or self._over or (switch.terminate and not deaf))
        if switch.terminate:
            raise RuntimeError("terminated")
        if not self._open:
            self._tickets -= 1
        if (ids == EVIL).any():
            raise RuntimeError("the evil row")
        return {name: ids[..., None].astype(np.float32) for name in outputs}

    # What happens.

    def act(self, act: Act) -> None:
        match act:
            case Send():
                self._tell(lambda: self._send(act))
            case Leave(which):
                self._tell(lambda: self._leave(which))
            case Wait(seconds):
                self.now += seconds
                self.calm &= self.now < 100 + SOON
            case Let(runs, opened):
                self._open, self._tickets = opened, runs
            case Fail(refused, refusal, anyway, deaf):
                self.calm &= not (refused or deaf)
                self._hands.refuse, self._hands.refusal, self._hands.anyway = refused, refusal, anyway
                self._deaf = deaf
            case End(hand_back):
                self.calm = False
                self._tell(self.engine.hand_back if hand_back else self._close)
            case Rest():
                self.rest()

    def go(self, steps: int) -> bool:
        """Go on, so many steps; whether anybody could."""
        for _ in range(steps):
            able = self._hands.able()
            if self._stage.ready():
                able.append(self._stage.step)
            if not able:
                return False
            able[self._order[self._step % len(self._order)] % len(able)]()
            self._step += 1
        return True

    def rest(self) -> None:
        """All do what they can; then nothing that could be done may wait for somebody to think of it."""
        assert not self.go(20_000), "no rest"
        assert not self._errors, self._errors
        owner, engine = self.engine._owner, self.engine
        assert not owner._unread and not owner._news, "answers or news that nobody is told of"
        with owner as scheduler:
            if self._prompt:
                decision = scheduler.next(self.now)
                wake = decision.time if isinstance(decision, WakeAt) else inf
                assert isinstance(decision, Idle) or wake < inf, f"nobody sees to {decision}"
                timer = self._loop.timer()
                assert wake == inf or (timer is not None and timer <= wake + 1e-6), f"nobody looks at {wake}"

            def refuse(pending: Pending[Any]) -> bool:
                item = pending.item(1 << 40, pending.lane.spec.name)
                assert scheduler.admit(item, self.now) is not None, "there is room for one who waits for it"
                return False

            engine._patience.admit(refuse, 64)

    def end(self) -> None:
        """Nothing stands in anybody's way any more: every row ends, and nothing is held."""
        self.rest()
        self._over = self._open = True
        self._hands.refuse = 0
        self._finish(lambda: all(task.done() for _, task in self._sent))
        self._tell(lambda: self._endings.append(self._loop.create_task(self.engine.close())))
        self._finish(lambda: all(task.done() for task in self._endings))
        engine, owner = self.engine, self.engine._owner
        assert (engine.items, engine.bytes, engine.running, engine.hung) == (0, 0, 0, 0)
        assert not owner._rows and not owner._runs and not engine._patience
        for sent, task in self._sent:
            self._judge(sent, task)

    def close(self) -> None:
        self._hands.leave()
        self._stage.leave()
        self._loop.close()

    def _judge(self, sent: Send, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            assert isinstance(error, ServeError) or task in self._left, error
            evil, mortal = any(EVIL in row for row in sent.rows), sent.deadline < inf
            assert task in self._left or evil or mortal or not (self.calm and sent.patient), error
            return
        assert [done.value for done in task.result()] == [list(row) for row in sent.rows]
        assert all(isinstance(done, Done) for done in task.result())

    def _finish(self, done: Callable[[], bool]) -> None:
        self.rest()
        while not done():
            timer = self._loop.timer()
            assert timer is not None, "rows that nobody will think of any more"
            self.now = max(self.now, timer)
            self.rest()

    def _tell(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _send(self, sent: Send) -> None:
        arrival = None if sent.ago is None else self.now - sent.ago
        urgency = Urgency(
            sent.level,
            sent.client,
            deadline=self.now + sent.deadline,
            patient=sent.patient,
            arrival=arrival,
            leads=sent.leads,
        )
        rows = [Row(np.array(ids), 0, HEADS, _read) for ids in sent.rows]
        self._sent.append((sent, self._loop.create_task(self._lane.submit_all(rows, urgency))))

    def _leave(self, which: int) -> None:
        waiting = [task for _, task in self._sent if not task.done()]
        if waiting and (task := waiting[which % len(waiting)]).cancel():
            self._left.add(task)

    def _close(self) -> None:
        self._endings.append(self._loop.create_task(self._lane.close()))


def _read(values: dict[str, Floats]) -> list[int]:
    pause()
    return [int(value) for (value,) in values[HEADS[0]]]


@contextmanager
def told() -> Iterator[Counter[Pending[Any]]]:
    """How often each row's end has been told to a caller that still waits."""
    ends: Counter[Pending[Any]] = Counter()
    settle = Pending.settle

    def count(pending: Pending[Any], answer: Any) -> None:
        ends[pending] += not pending.answers.ready.done()
        settle(pending, answer)

    with patch.object(Pending, "settle", count):
        yield ends
