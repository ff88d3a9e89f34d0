"""What a variant's batches are counted as, and the spans of those that run traced items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from kniv.server.scheduling.observe import BatchReport, Observer
from kniv.server.scheduling.work import Drop, Reason
from kniv.server.telemetry import instruments as known
from kniv.server.telemetry.items import ItemTrail
from kniv.server.telemetry.spans import Spans

Labels = dict[str, str]
Point = tuple[float, Labels]


class LaneMeter(Observer):
    """Counts of one variant, in plain numbers that are read when metrics are collected.

    Args:
        model, version, variant: whose batches.
        spans: takes the batches' spans.
        queued: records how long the row of a batch waited that waited longest, in seconds.
    """

    def __init__(
        self, model: str, version: int, variant: str, spans: Spans, queued: Callable[[float, Labels], None]
    ) -> None:
        self.name = f"{model}/{version}/{variant}"
        self._labels = {known.MODEL: model, known.VERSION: str(version), known.VARIANT: variant}
        self._by_level: dict[int, Labels] = {}
        self._spans, self._record = spans, queued
        self._batches = self._rows = self._answered = self._failed = self._tokens = self._padded = self._cancelled = (
            self._hung
        ) = 0
        self._input = self._infer = self._output = 0.0
        self._waited: defaultdict[int, float] = defaultdict(float)
        self._dispatched: defaultdict[int, int] = defaultdict(int)
        self._refused: defaultdict[str, int] = defaultdict(int)
        self._expired: defaultdict[str, int] = defaultdict(int)

    def ran(self, report: BatchReport) -> None:
        """A batch has run."""
        times = report.times
        self._batches += 1
        self._rows += report.rows
        self._answered += report.answered
        self._failed += report.failed
        self._tokens += report.tokens
        self._padded += report.padded_tokens
        self._input += times.input
        self._infer += times.infer
        self._output += times.output
        longest: dict[int, float] = {}
        for level, waited in zip(report.levels, report.queued, strict=True):
            self._dispatched[level] += 1
            self._waited[level] += waited
            if waited > longest.get(level, -1.0):
                longest[level] = waited
        for level, waited in longest.items():
            self._record(waited, self.at(level))
        self._trace(report)

    def refused(self, reason: Reason) -> None:
        """A row was not taken."""
        self._refused[reason] += 1

    def dropped(self, reason: Drop) -> None:
        """A row's time was up before it was answered."""
        self._expired[reason] += 1

    def hung(self, pool: str) -> None:
        """A run has not returned though it was told to stop."""
        self._hung += 1

    def cancelled(self) -> None:
        """A row's caller has gone before it was answered."""
        self._cancelled += 1

    def at(self, level: int) -> Labels:
        """The labels of rows of a level."""
        labels = self._by_level.get(level)
        if labels is None:
            labels = self._by_level[level] = self._labels | {known.LEVEL: str(level)}
        return labels

    def points(self) -> Iterator[tuple[known.Metric, float, Labels]]:
        """All counts, from whatever thread."""
        mine = self._labels
        yield known.INFERENCES, self._answered, mine
        yield known.EXECUTIONS, self._batches, mine
        yield known.FAILURES, self._failed, mine
        yield known.BATCH_ROWS, self._rows, mine
        yield known.TOKENS, self._tokens, mine
        yield known.PADDED, self._padded, mine
        yield known.INPUT, self._input, mine
        yield known.INFER, self._infer, mine
        yield known.OUTPUT, self._output, mine
        yield known.CANCELLED, self._cancelled, mine
        yield known.HUNG, self._hung, mine
        for reason in Reason:
            yield known.REFUSED, self._refused.get(reason, 0), mine | {known.REASON: reason}
        for drop in Drop:
            yield known.EXPIRED, self._expired.get(drop, 0), mine | {known.REASON: drop}
        for level, waited in list(self._waited.items()):
            yield known.WAITED, waited, self.at(level)
            yield known.DISPATCHED, self._dispatched[level], self.at(level)

    def _trace(self, report: BatchReport) -> None:
        """The batch's span, with links to its items, and to it from each of them."""
        shares: dict[ItemTrail, float] = {}
        for trail, waited in zip(report.trails, report.queued, strict=True):
            if isinstance(trail, ItemTrail) and trail.traced and waited >= shares.get(trail, 0.0):
                shares[trail] = waited
        if not shares:
            return
        times, context = report.times, self._spans.alone()
        ended = report.began + times.input + times.infer + times.output
        for trail, waited in shares.items():
            trail.ran(context, report.began - waited, report.began, times)
        attributes: dict[str, str | bool | int | float] = {
            **self._labels,
            "kniv.pool": report.pool,
            "kniv.batch.rows": report.rows,
            "kniv.batch.tokens": report.tokens,
            "kniv.batch.padded_tokens": report.padded_tokens,
            "kniv.compute.infer": times.infer,
        }
        if report.failed:
            attributes["kniv.batch.failed_rows"] = report.failed
        links = [trail.context for trail in shares]
        failed = bool(report.failed)
        self._spans.record("batch", context, None, report.began, ended, attributes, links, failed=failed)
