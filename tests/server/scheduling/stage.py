"""An engine over a model that gives back what it gets, for tests of rows on their way through it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from tests.server.scheduling.simulator import batching

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
