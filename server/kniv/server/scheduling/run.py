"""One batch on its way through a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kniv.server.scheduling.execute import Executed, Switch, execute, failed
from kniv.server.scheduling.observe import BatchReport
from kniv.server.scheduling.row import BatchTimes
from kniv.server.scheduling.work import Batch

if TYPE_CHECKING:
    from kniv.server.scheduling.handle import Lane
    from kniv.server.scheduling.pending import Pending


@dataclass(slots=True, eq=False)
class Run:
    """A batch on its way through a thread.

    Attributes:
        batch: its rows and their common length.
        pool: where it runs.
        rows: the rows.
        began: when it was given to a thread, on the engine's clock.
        switch: stops it; None until it is in its thread.
        wanted: whether it need not be stopped.
        late: whether it was stopped for taking too long.
        claimed: whether somebody has begun with it.
    """

    batch: Batch
    pool: str
    rows: tuple[Pending[Any], ...]
    began: float
    switch: Switch | None = None
    wanted: bool = True
    late: bool = False
    claimed: bool = False

    @property
    def lane(self) -> Lane:
        """What runs it."""
        return self.rows[0].lane

    def execute(self) -> Executed:
        """Run it, in a worker thread."""
        try:
            runner = self.lane.runners[self.pool]
            self.switch = runner.switch()
            if not self.wanted:  # since before there was a switch
                self.switch.terminate = True
            result = execute(runner, [pending.row for pending in self.rows], self.batch.length, self.switch)
        except Exception as error:  # no memory, say
            return self.unable(error)
        if self.late and result.failures:
            slow = TimeoutError("it took too long and was stopped")
            return failed(len(self.rows), "the model failed on this sentence", slow, result.input, result.infer)
        return result

    def unable(self, error: Exception) -> Executed:
        """What comes of it where it could not be begun."""
        return failed(len(self.rows), "the batch could not be run", error)

    def stop(self) -> None:
        """Nobody wants it any more, or it takes too long."""
        self.wanted = False
        if self.switch is not None:
            self.switch.terminate = True

    def report(self, answered: int, failed: int, times: BatchTimes) -> BatchReport:
        """What is told of it once its answers are read."""
        rows = self.rows
        return BatchReport(
            lane=self.lane.name,
            pool=self.pool,
            outputs=rows[0].row.outputs,
            rows=len(rows),
            answered=answered,
            failed=failed,
            tokens=sum(len(pending.row.ids) for pending in rows),
            padded_tokens=self.batch.length * len(rows),
            times=times,
            queued=tuple(pending.queued for pending in rows),
            levels=tuple(self.lane.level(pending.urgency.level) for pending in rows),
            trails=tuple(pending.urgency.trail for pending in rows),
            began=self.began,
        )
