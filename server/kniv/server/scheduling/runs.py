"""Batches under way in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kniv.server.scheduling.execute import Executed, Switch, execute, failed
from kniv.server.scheduling.observe import BatchReport
from kniv.server.scheduling.row import BatchTimes
from kniv.server.scheduling.work import Batch

if TYPE_CHECKING:
    from kniv.server.scheduling.handle import Lane
    from kniv.server.scheduling.pending import Pending


@dataclass(frozen=True, slots=True)
class Run:
    """A batch on its way through a thread.

    Attributes:
        batch: its rows and their common length.
        pool: where it runs.
        lane: what runs it.
        rows: the rows.
        began: when it was given to a thread, on the engine's clock.
    """

    batch: Batch
    pool: str
    lane: Lane
    rows: tuple[Pending[Any], ...]
    began: float

    def report(self, result: Executed) -> BatchReport:
        """What is told of it once it has ended."""
        rows = self.rows
        return BatchReport(
            lane=self.lane.name,
            pool=self.pool,
            outputs=rows[0].row.outputs,
            rows=len(rows),
            failed=sum(isinstance(answer, Exception) for answer in result.answers),
            tokens=sum(len(pending.row.ids) for pending in rows),
            padded_tokens=self.batch.length * len(rows),
            times=result.times,
            queued=tuple(pending.queued for pending in rows),
            levels=tuple(self.lane.level(pending.urgency.level) for pending in rows),
            trails=tuple(pending.urgency.trail for pending in rows),
            began=self.began,
        )


@dataclass(slots=True)
class _UnderWay:
    run: Run
    switch: Switch | None = None  # none if it could not even begin
    late: bool = False


class Runs:
    """Starts runs and stops them; to be used on one event loop only.

    Args:
        executor: their threads.
        ended: told on the loop what has come of a run.
    """

    def __init__(self, executor: Executor, ended: Callable[[Run, Executed], None]) -> None:
        self._executor, self._ended = executor, ended
        self._under_way: dict[int, _UnderWay] = {}  # by batch, those that hang among them

    def __len__(self) -> int:
        return len(self._under_way)

    def __getitem__(self, batch: int) -> Run:
        return self._under_way[batch].run

    def start(self, run: Run) -> None:
        """Give a batch to a thread."""
        loop, runner = asyncio.get_running_loop(), run.lane.runners[run.pool]
        one = self._under_way[run.batch.id] = _UnderWay(run)
        try:
            one.switch = switch = runner.switch()
            work = partial(execute, runner, [pending.row for pending in run.rows], run.batch.length, switch)
            future = loop.run_in_executor(self._executor, work)
        except Exception as error:  # no threads any more, or no memory
            future = loop.create_future()
            future.set_exception(error)
        future.add_done_callback(partial(self._returned, run))

    def abandon(self, batch: int) -> None:
        """Nobody wants a batch any more: stop it."""
        if (switch := self._under_way[batch].switch) is not None:
            switch.terminate = True

    def stop(self, batch: int) -> None:
        """A batch takes too long: stop it, and say so where it fails."""
        self._under_way[batch].late = True
        self.abandon(batch)

    def _returned(self, run: Run, future: asyncio.Future[Executed]) -> None:
        late = self._under_way.pop(run.batch.id).late
        try:
            result = future.result()
        except Exception as error:
            result = failed(len(run.rows), "the batch could not be run", error, BatchTimes(0, 0, 0))
        if late and result.suspects:
            slow = TimeoutError("it took too long and was stopped")
            result = failed(len(run.rows), "the model failed on this sentence", slow, result.times)
        self._ended(run, result)
