"""What is told to statistics and telemetry."""

from __future__ import annotations

from dataclasses import dataclass

from kniv.server.scheduling.row import BatchTimes
from kniv.server.scheduling.work import Drop, Reason


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch that has run.

    Attributes:
        lane: what ran it.
        pool: where.
        outputs: of the graph that were asked for.
        rows: number of rows.
        failed: how many of them have no answer from it.
        tokens: their subwords.
        padded_tokens: with padding.
        times: what it took.
        queued: seconds that each row waited.
    """

    lane: str
    pool: str
    outputs: tuple[str, ...]
    rows: int
    failed: int
    tokens: int
    padded_tokens: int
    times: BatchTimes
    queued: tuple[float, ...]


class Observer:
    """Told what happens in a lane, on the event loop; does nothing by itself."""

    def ran(self, report: BatchReport) -> None:
        """A batch has run."""

    def refused(self, reason: Reason) -> None:
        """A row was not taken."""

    def dropped(self, reason: Drop) -> None:
        """A row's time was up before it was answered."""

    def cancelled(self) -> None:
        """A row's caller has gone before it was answered."""
