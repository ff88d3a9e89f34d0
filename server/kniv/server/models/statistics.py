"""What a model version has done since it was loaded, counted as Triton's statistics extension counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter, time
from typing import Any, TypeVar

from kniv.server.scheduling.handle import Lane
from kniv.server.scheduling.observe import BatchReport, Observer
from kniv.server.scheduling.row import Done, Row
from kniv.server.scheduling.urgency import Urgency

T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """How often something happened and the seconds it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """It happened once more."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class BatchTally:
    """What batches of one size took."""

    input: Tally = field(default_factory=Tally)
    infer: Tally = field(default_factory=Tally)
    output: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class Statistics(Observer):
    """Counts of one model version. A request is a ModelInfer call, or rows that an annotation needs together: those
    of a sentence's word layers, its frames, or its dialog act.

    Attributes:
        inferences: rows answered.
        executions: batches run.
        last: time of the last request's end, seconds since the epoch; 0 before the first.
        success, fail, cancel: requests by how they ended, with the time from their arrival.
        queue, input, infer, output: what the successful ones spent waiting, and in their batches.
        batches: batches by number of rows.
    """

    inferences: int = 0
    executions: int = 0
    last: float = 0.0
    success: Tally = field(default_factory=Tally)
    fail: Tally = field(default_factory=Tally)
    cancel: Tally = field(default_factory=Tally)
    queue: Tally = field(default_factory=Tally)
    input: Tally = field(default_factory=Tally)
    infer: Tally = field(default_factory=Tally)
    output: Tally = field(default_factory=Tally)
    batches: dict[int, BatchTally] = field(default_factory=dict)

    def ran(self, report: BatchReport) -> None:
        """A batch has run."""
        self.executions += 1
        tally = self.batches.setdefault(report.rows, BatchTally())
        tally.input.add(report.times.input)
        tally.infer.add(report.times.infer)
        tally.output.add(report.times.output)

    def answered(self, answers: Sequence[Done[Any]], seconds: float) -> None:
        """A request has been answered; its rows waited and ran side by side, so the longest counts."""
        self.last = time()
        self.inferences += len(answers)
        self.success.add(seconds)
        self.queue.add(max(done.queued for done in answers))
        self.input.add(max(done.batch.input for done in answers))
        self.infer.add(max(done.batch.infer for done in answers))
        self.output.add(max(done.batch.output for done in answers))


class CountedRows:
    """Rows of one variant, each request counted.

    Args:
        lane: where rows are answered.
        statistics: where they are counted.
    """

    def __init__(self, lane: Lane, statistics: Statistics) -> None:
        self._lane, self._statistics = lane, statistics

    async def submit(self, row: Row[T], urgency: Urgency) -> Done[T]:
        """Answer one row, a request of its own; see :meth:`kniv.server.scheduling.handle.Lane.submit`."""
        return (await self.submit_all([row], urgency))[0]

    async def submit_all(self, rows: Sequence[Row[T]], urgency: Urgency) -> list[Done[T]]:
        """Answer the rows of one request; the first that fails gives up the others.

        Raises:
            ServeError: what the first row met that could not be answered.
        """
        started = perf_counter()
        try:
            answers = await self._lane.submit_all(rows, urgency)
        except asyncio.CancelledError:
            self._statistics.cancel.add(perf_counter() - started)
            raise
        except Exception:
            self._statistics.fail.add(perf_counter() - started)
            raise
        self._statistics.answered(answers, perf_counter() - started)
        return answers

    def check(self, urgency: Urgency) -> None:
        """Refuse a request before its rows are made, if it would be refused now; counted as one that failed.

        Raises:
            OverloadedError, DeadlineError: see :meth:`kniv.server.scheduling.engine.Engine.check`.
        """
        started = perf_counter()
        try:
            self._lane.check(urgency)
        except Exception:
            self._statistics.fail.add(perf_counter() - started)
            raise

    async def close(self) -> None:
        """Take no new rows and wait for those that are here."""
        await self._lane.close()
