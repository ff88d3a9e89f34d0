"""Spans, made after the fact from times that were noted anyway: cheaper by far than live ones on a busy event loop.

What a span consists of, its ids, the sampling and the sending are OpenTelemetry's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, get_current_span

Attributes: TypeAlias = Mapping[str, str | bool | int | float]

MOST_LINKS = 128  # OpenTelemetry's own limit

_OK, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)


class _Resource(Resource):
    """One that is told from others by identity: the exporter groups by it, span after span."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class Spans:
    """Makes spans and hands them to a processor.

    Args:
        processor: takes finished spans; None where none are sent.
        resource: what the server is.
        version: the server's.
        ratio: part of the calls that is traced where the caller has not decided already.
    """

    def __init__(self, processor: SpanProcessor | None, resource: Resource, version: str, ratio: float) -> None:
        self._processor = processor
        self._resource = _Resource(resource.attributes, resource.schema_url)
        self._scope = InstrumentationScope("kniv.server", version)
        self._ids = RandomIdGenerator()
        self.ratio = ratio

    @property
    def ratio(self) -> float:
        """Part of the calls that is traced where the caller has not decided already."""
        return self._ratio

    @ratio.setter
    def ratio(self, ratio: float) -> None:
        self._ratio = ratio
        self._sampler = ParentBased(TraceIdRatioBased(ratio))

    def begin(self, name: str, above: Context) -> tuple[SpanContext, SpanContext | None]:
        """Identity of a call's span, and of its parent if the caller named one.

        Args:
            name: the span's.
            above: what the call's metadata say.
        """
        parent: SpanContext | None = get_current_span(above).get_span_context()
        if parent is None or not parent.is_valid:
            parent, trace = None, self._ids.generate_trace_id()
        else:
            trace = parent.trace_id
        if self._processor is None:
            flags, state = _NOT_SAMPLED, None if parent is None else parent.trace_state
        else:
            result = self._sampler.should_sample(above, trace, name, SpanKind.SERVER)
            sampled = result.decision is Decision.RECORD_AND_SAMPLE
            flags, state = _SAMPLED if sampled else _NOT_SAMPLED, result.trace_state
        return SpanContext(trace, self._ids.generate_span_id(), False, flags, state), parent

    def below(self, parent: SpanContext) -> SpanContext:
        """Identity of a span inside another."""
        return SpanContext(parent.trace_id, self._ids.generate_span_id(), False, parent.trace_flags, parent.trace_state)

    def alone(self) -> SpanContext:
        """Identity of a sampled span without a parent."""
        return SpanContext(self._ids.generate_trace_id(), self._ids.generate_span_id(), False, _SAMPLED)

    def record(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        began: float,
        ended: float,
        attributes: Attributes,
        links: Sequence[SpanContext] = (),
        kind: SpanKind = SpanKind.INTERNAL,
        failed: bool = False,
    ) -> None:
        """Hand on a finished span; its times are of ``time.monotonic``."""
        if self._processor is None or not context.trace_flags.sampled:
            return
        offset = time.time_ns() - time.monotonic_ns()
        span = ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            links=[Link(link) for link in links[:MOST_LINKS]],
            kind=kind,
            status=_ERROR if failed else _OK,
            start_time=offset + int(began * 1e9),
            end_time=offset + int(ended * 1e9),
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)
