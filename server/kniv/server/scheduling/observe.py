"""What is told to statistics and telemetry."""

from __future__ import annotations

from dataclasses import dataclass

from kniv.server.scheduling.row import BatchTimes
from kniv.server.scheduling.trail import Trail
from kniv.server.scheduling.work import Drop, Reason


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch that has run.

    Attributes:
        lane: what ran it.
        pool: where.
        outputs: of the graph that were asked for.
        rows: number of rows.
        answered, failed: how many of them have an answer from it, and have none though they are wanted.
        tokens: their subwords.
        padded_tokens: with padding.
        times: what it took.
        queued: seconds that each row waited.
        levels: priority level of each row.
        trails: of each row that of the item it is part of.
        began: when it was given to a thread, on the engine's clock.
    """

    lane: str
    pool: str
    outputs: tuple[str, ...]
    rows: int
    answered: int
    failed: int
    tokens: int
    padded_tokens: int
    times: BatchTimes
    queued: tuple[float, ...]
    levels: tuple[int, ...]
    trails: tuple[Trail, ...]
    began: float


class Observer:
    """Told what happens in a lane, on the event loop; does nothing by itself."""

    def ran(self, report: BatchReport) -> None:
        """A batch has run."""

    def refused(self, reason: Reason) -> None:
        """A row was not taken."""

    def dropped(self, reason: Drop) -> None:
        """A row's time was up before it was answered."""

    def hung(self, pool: str) -> None:
        """A run has not returned though it was told to stop: its rows have failed."""

    def cancelled(self) -> None:
        """A row's caller has gone before it was answered."""


class Both(Observer):
    """Tells two observers."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self._first, self._second = first, second

    def ran(self, report: BatchReport) -> None:
        """A batch has run."""
        self._first.ran(report)
        self._second.ran(report)

    def refused(self, reason: Reason) -> None:
        """A row was not taken."""
        self._first.refused(reason)
        self._second.refused(reason)

    def dropped(self, reason: Drop) -> None:
        """A row's time was up before it was answered."""
        self._first.dropped(reason)
        self._second.dropped(reason)

    def hung(self, pool: str) -> None:
        """A run has not returned though it was told to stop."""
        self._first.hung(pool)
        self._second.hung(pool)

    def cancelled(self) -> None:
        """A row's caller has gone before it was answered."""
        self._first.cancelled()
        self._second.cancelled()
