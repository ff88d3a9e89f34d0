"""Every call of the server: counted, timed, and the root of the spans of its items.

OpenTelemetry's own interceptor for grpc.aio fails on stream handlers that are coroutines
(opentelemetry-python-contrib#3066) and swallows cancellation (#3271), hence this one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from inspect import isasyncgenfunction, iscoroutinefunction
from time import monotonic
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry.context import Context, attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tritonclient.grpc import service_pb2

from kniv.server.errors import ServeError
from kniv.server.scheduling.trail import CALL, Kind, Outcome, Trail, Trails
from kniv.server.services.handler import Handler, behaviour, replaced
from kniv.server.services.status import cause_of, reason_of, rpc_status
from kniv.server.telemetry import instruments as known
from kniv.server.telemetry.items import Ended, ItemTrail
from kniv.server.telemetry.spans import Spans
from kniv.v1 import annotation_service_pb2

Record: TypeAlias = Callable[[float, dict[str, str], Context], None]

OTHER_METHOD, _OTHER_SPAN = "other", "_OTHER"  # as gRPC's proposal A66 and OpenTelemetry's conventions have it

_FILES = (annotation_service_pb2, service_pb2, health_pb2, reflection_pb2)
_METHODS = frozenset(
    f"{service.full_name}/{method.name}"
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
) | {"grpc.reflection.v1.ServerReflection/ServerReflectionInfo"}
# What OpenTelemetry's conventions for gRPC take for the server's fault.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
_NAMES: dict[object, str] = {
    key: code.name for code in grpc.StatusCode for key in (code, code.value[0])
}  # a context tells either
_W3C = TraceContextTextMapPropagator()
_NOWHERE = Context()


class Call(Trails):
    """One call under way."""

    __slots__ = ("_began", "_meter", "_parent", "above", "context", "method", "received", "sent")

    def __init__(self, meter: CallMeter, method: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        self._began, self._meter, self.method = monotonic(), meter, method
        carrier = {key: value for key, value in metadata or () if key in _W3C.fields and isinstance(value, str)}
        outside = _W3C.extract(carrier, Context()) if carrier else Context()
        self.context, self._parent = meter.spans.begin(method, outside)
        self.above = set_span_in_context(NonRecordingSpan(self.context), outside)
        self.received = self.sent = 0
        meter.started[method] += 1
        meter.active[method] += 1

    def begin(self, kind: Kind, model: str, version: int, variant: str, name: str = "") -> Trail:
        """The trail of an item that has come."""
        meter = self._meter
        context = meter.spans.below(self.context)
        attributes: dict[str, str | int] = {known.MODEL: model, known.VERSION: str(version), known.VARIANT: variant}
        if meter.texts and name:
            attributes["kniv.item.name"] = name
        return ItemTrail(kind, context, self.context, meter.spans, attributes, meter.texts, meter.ended)

    def end(self, status: str, error: BaseException | None = None) -> None:
        """It has ended with this status, and for this error."""
        now, meter, method = monotonic(), self._meter, self.method
        meter.active[method] -= 1
        if error is not None and (reason := reason_of(cause_of(error))):
            meter.refused[method, reason.lower()] += 1
        labels = meter.labels(method, status)
        meter.duration(now - self._began, labels, self.above)
        meter.sent(self.sent, labels, self.above)
        meter.received(self.received, labels, self.above)
        failed = status in _FAULTS
        shown = _OTHER_SPAN if method == OTHER_METHOD else method
        attributes = {"rpc.system.name": "grpc", "rpc.method": shown, "rpc.response.status_code": status}
        if failed:
            attributes["error.type"] = status
        meter.spans.record(
            shown, self.context, self._parent, self._began, now, attributes, kind=SpanKind.SERVER, failed=failed
        )


class CallMeter:
    """Counts calls.

    Args:
        spans: takes theirs.
        texts: whether traces may hold callers' texts.
        duration, sent, received: record the seconds and the bytes of a call that has ended.
        items: records the seconds of an item that has ended.

    Attributes:
        started, active: calls by method.
        refused: calls by method and the reason why they were refused, or ended early.
    """

    def __init__(
        self, spans: Spans, texts: bool, duration: Record, sent: Record, received: Record, items: Record
    ) -> None:
        self.spans, self.texts = spans, texts
        self.duration, self.sent, self.received, self._items = duration, sent, received, items
        self.started: defaultdict[str, int] = defaultdict(int)
        self.active: defaultdict[str, int] = defaultdict(int)
        self.refused: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._labels: dict[tuple[str, str], dict[str, str]] = {}
        self.ended: Ended = self._item_ended

    def labels(self, method: str, status: str) -> dict[str, str]:
        """The labels of a call that has ended."""
        found = self._labels.get((method, status))
        if found is None:
            found = self._labels[method, status] = {"grpc.method": method, "grpc.status": status}
        return found

    def _item_ended(
        self, kind: Kind, outcome: Outcome, error: Exception | None, seconds: float, context: SpanContext
    ) -> None:
        # Only a span that is kept can be an exemplar.
        above = set_span_in_context(NonRecordingSpan(context), _NOWHERE) if context.trace_flags.sampled else _NOWHERE
        labels = {known.KIND: kind.value, known.OUTCOME: outcome.value, known.STATUS: _item_status(outcome, error)}
        self._items(seconds, labels, above)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Follows each call from its method to its status."""

    def __init__(self, meter: CallMeter) -> None:
        self._meter = meter

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Follow a call; one of a method that does not exist has ended already."""
        handler = await continuation(handler_call_details)
        name = handler_call_details.method.lstrip("/")
        method, metadata = name if name in _METHODS else OTHER_METHOD, handler_call_details.invocation_metadata
        if handler is None:
            Call(self._meter, OTHER_METHOD, metadata).end("UNIMPLEMENTED")
            return None
        inner = behaviour(handler)
        if isasyncgenfunction(inner):
            return replaced(handler, self._generator(inner, method))
        if iscoroutinefunction(inner):
            return replaced(handler, self._coroutine(inner, method, handler.response_streaming))
        return handler

    def _coroutine(
        self, inner: Callable[[Any, Any], Awaitable[Any]], method: str, streams: bool
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def run(request: Any, context: Any) -> Any:
            call = Call(self._meter, method, context.invocation_metadata())
            # For the task of this one call, so that neither needs to be undone.
            CALL.set(call)
            attach(call.above)
            call.received += _size(request)
            try:
                response = await inner(request, _Counted(context, call) if streams else context)
            except BaseException as error:  # cancellation among them: told of, and raised again
                call.end(_status(context, error), error)
                raise
            call.sent += _size(response)
            call.end(_status(context, None))
            return response

        return run

    def _generator(
        self, inner: Callable[[Any, Any], AsyncIterator[Any]], method: str
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def run(request: Any, context: Any) -> AsyncIterator[Any]:
            call = Call(self._meter, method, context.invocation_metadata())
            call.received += _size(request)
            try:
                async for response in inner(request, context):
                    call.sent += _size(response)
                    yield response
            except BaseException as error:
                call.end(_status(context, error), error)
                raise
            call.end(_status(context, None))

        return run


class _Counted:
    """A stream's context that counts the messages' bytes."""

    __slots__ = ("_call", "_context")

    def __init__(self, context: Any, call: Call) -> None:
        self._context, self._call = context, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        message = await self._context.read()
        self._call.received += _size(message)
        return message

    async def write(self, message: Any) -> None:
        self._call.sent += _size(message)
        await self._context.write(message)


def _size(message: Any) -> int:
    """Bytes of a message; 0 of what is none: a stream's iterator or end."""
    if isinstance(message, bytes):
        return len(message)
    return message.ByteSize() if hasattr(message, "ByteSize") else 0


def _item_status(outcome: Outcome, error: Exception | None) -> str:
    """Name of the status that stands for an item's end."""
    if outcome is Outcome.COMPLETE:
        return "OK"
    if outcome is not Outcome.FAILED:
        return "CANCELLED"
    return _NAMES[rpc_status(error).code] if isinstance(error, ServeError) else "INTERNAL"


def _status(context: Any, error: BaseException | None) -> str:
    """Name of the status that a call ends with."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        left = context.time_remaining()
        return "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
    told = _NAMES.get(context.code() or 0, "UNKNOWN")
    return "UNKNOWN" if error is not None and told == "OK" else told
