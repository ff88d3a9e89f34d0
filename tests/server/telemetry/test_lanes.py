"""Counts and spans of batches, over any reports."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from kniv.server.scheduling.observe import BatchReport
from kniv.server.scheduling.row import BatchTimes
from kniv.server.scheduling.trail import NO_TRAIL, Kind, Outcome
from kniv.server.telemetry import instruments as known
from kniv.server.telemetry.items import ItemTrail
from kniv.server.telemetry.lanes import LaneMeter
from kniv.server.telemetry.spans import Spans


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


SECONDS = st.integers(0, 1000).map(lambda number: number / 64)  # exact in binary
# Of each row its level, wait and item, None for one of an item that nobody traces.
ROWS = st.lists(st.tuples(st.integers(1, 3), SECONDS, st.none() | st.integers(0, 3)), min_size=1, max_size=6)
BATCHES = st.lists(st.tuples(ROWS, st.integers(0, 6), st.integers(0, 99), SECONDS, SECONDS, SECONDS), max_size=8)


@given(BATCHES)
def test_counts_are_sums_and_every_traced_item_is_linked(batches: list[tuple]) -> None:  # type: ignore[type-arg]
    kept, longest, ends = Kept(), defaultdict(list), []
    spans = Spans(kept, Resource({}), "0", 1.0)
    meter = LaneMeter("m", 1, "v", spans, lambda wait, labels: longest[labels[known.LEVEL]].append(wait))
    call, _ = spans.begin("call", Context())
    items = [
        ItemTrail(Kind.TURN, spans.below(call), call, spans, {}, False, lambda *told: ends.append(told))
        for _ in range(4)
    ]
    for rows, failed, padding, packed, ran, read in batches:
        tokens = 7 * len(rows)
        meter.ran(
            BatchReport(
                lane="m/1/v",
                pool="cpu",
                outputs=(),
                rows=len(rows),
                answered=len(rows) - min(failed, len(rows)),
                failed=min(failed, len(rows)),
                tokens=tokens,
                padded_tokens=tokens + padding,
                times=BatchTimes(packed, ran, read),
                queued=tuple(wait for _, wait, _ in rows),
                levels=tuple(level for level, _, _ in rows),
                trails=tuple(NO_TRAIL if item is None else items[item] for _, _, item in rows),
                began=100.0,
            )
        )
    for item in items:
        item.ended(Outcome.COMPLETE)
    counts: defaultdict[known.Metric, float] = defaultdict(float)
    for metric, value, labels in meter.points():
        counts[metric] += value
        assert set(labels) == set(metric.labels)
    every = [row for rows, *_ in batches for row in rows]
    assert counts[known.BATCH_ROWS] == counts[known.DISPATCHED] == len(every)
    assert counts[known.INFERENCES] + counts[known.FAILURES] == len(every)
    assert counts[known.EXECUTIONS] == len(batches)
    assert counts[known.PADDED] - counts[known.TOKENS] == sum(batch[2] for batch in batches)
    assert counts[known.WAITED] == sum(wait for _, wait, _ in every)
    for level in ("1", "2", "3"):
        of_level = [[wait for number, wait, _ in rows if str(number) == level] for rows, *_ in batches]
        assert longest[level] == [max(waits) for waits in of_level if waits]
    links = {span.context.span_id: {link.context.span_id for link in span.links} for span in kept.spans if span.context}
    traced = [{items[item].context.span_id for _, _, item in rows if item is not None} for rows, *_ in batches]
    told = [links[span.context.span_id] for span in kept.spans if span.name == "batch" and span.context]
    assert told == [names for names in traced if names]
    back = {link for span in kept.spans if span.name == "infer" for link in links[span.context.span_id]}  # type: ignore[union-attr]
    assert back == {span.context.span_id for span in kept.spans if span.name == "batch" and span.context}
    for span in kept.spans:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
    assert len(ends) == 4
