"""The spans of one item: itself, and one for each stage that its sentences went through."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from opentelemetry.trace import SpanContext

from kniv.server.scheduling.row import BatchTimes
from kniv.server.scheduling.trail import Kind, Outcome, Trail
from kniv.server.telemetry import instruments as known
from kniv.server.telemetry.spans import MOST_LINKS, Attributes, Spans

_LONGEST_TEXT = 1024  # characters of a text that a trace may hold

Ended = Callable[[Kind, Outcome, Exception | None, float, SpanContext], None]


class _Stage:
    """When a stage began first and ended last, and the seconds spent in it by all sentences."""

    __slots__ = ("began", "busy", "ended")

    def __init__(self, began: float, ended: float) -> None:
        self.began, self.ended, self.busy = began, ended, ended - began

    def add(self, began: float, ended: float) -> None:
        """Another stay in it."""
        self.began, self.ended = min(began, self.began), max(ended, self.ended)
        self.busy += ended - began


class ItemTrail(Trail):
    """Notes what happens to an item, and makes spans of it when it ends.

    Args:
        kind: what it is.
        context: identity of its span.
        parent: that of its call.
        spans: takes them.
        attributes: what is known of it as it comes.
        texts: whether its text may be noted.
        ended: told how it ended, of what error if any, and after how many seconds.
    """

    __slots__ = (
        "_attributes",
        "_batches",
        "_began",
        "_ended",
        "_kind",
        "_over",
        "_parent",
        "_sentences",
        "_spans",
        "_stages",
        "_text",
        "_texts",
        "context",
        "traced",
    )

    def __init__(
        self,
        kind: Kind,
        context: SpanContext,
        parent: SpanContext,
        spans: Spans,
        attributes: dict[str, str | int],
        texts: bool,
        ended: Ended,
    ) -> None:
        self.context, self.traced = context, context.trace_flags.sampled
        self._kind, self._parent, self._spans, self._attributes = kind, parent, spans, attributes
        self._texts, self._text, self._ended = texts, "", ended
        self._began, self._over, self._sentences = monotonic(), False, 0
        self._stages: dict[str, _Stage] = {}
        self._batches: list[SpanContext] = []

    def segmented(self, began: float, ended: float, text: str, sentences: int) -> None:
        """A piece of its text has been cut into so many sentences."""
        if self.traced:
            self._sentences += sentences
            self._stay("segment", began, ended)
            if self._texts and len(self._text) < _LONGEST_TEXT:
                self._text = (self._text + text)[:_LONGEST_TEXT]

    def encoded(self, began: float, ended: float) -> None:
        """A sentence has been made into rows."""
        if self.traced:
            self._stay("encode", began, ended)

    def ran(self, batch: SpanContext, came: float, began: float, times: BatchTimes) -> None:
        """A batch with rows of it has run.

        Args:
            batch: the batch's span.
            came: when the row came that waited longest.
            began: when the batch was begun.
            times: what it took.
        """
        packed = began + times.input
        ran = packed + times.infer
        self._stay("queue", came, began)
        self._stay("infer", packed, ran)
        self._stay("decode", ran, ran + times.output)
        if len(self._batches) < MOST_LINKS:
            self._batches.append(batch)

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        """It has ended; a second time says nothing."""
        if self._over:
            return
        self._over, now = True, monotonic()
        self._ended(self._kind, outcome, error, now - self._began, self.context)
        if not self.traced:
            return
        self.traced = False  # a batch that is still under way has come too late
        attributes: dict[str, str | bool | int | float] = {
            **self._attributes,
            known.OUTCOME: outcome,
            "kniv.item.sentences": self._sentences,
        }
        if error is not None:
            attributes["error.type"] = type(error).__name__
        if self._text:
            attributes["kniv.item.text"] = self._text
        for name, stage in self._stages.items():
            links = self._batches if name == "infer" else ()
            self._record(name, self._spans.below(self.context), self.context, stage, {"kniv.busy": stage.busy}, links)
        whole = _Stage(self._began, now)
        self._record(self._kind, self.context, self._parent, whole, attributes, (), failed=outcome is Outcome.FAILED)

    def _stay(self, name: str, began: float, ended: float) -> None:
        stage = self._stages.get(name)
        if stage is None:
            self._stages[name] = _Stage(began, ended)
        else:
            stage.add(began, ended)

    def _record(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext,
        stage: _Stage,
        attributes: Attributes,
        links: list[SpanContext] | tuple[()],
        failed: bool = False,
    ) -> None:
        began, ended = stage.began, stage.ended
        self._spans.record(name, context, parent, began, ended, attributes, links, failed=failed)
