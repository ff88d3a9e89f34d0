"""The interceptor: whatever a handler does passes through it unchanged, and is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource

from kniv.server.errors import InferenceError, InvalidRequestError, OverloadedError, StoppingError
from kniv.server.scheduling.trail import Kind, Outcome, trails
from kniv.server.telemetry.calls import Call, CallInterceptor, CallMeter
from kniv.server.telemetry.items import ItemTrail
from kniv.server.telemetry.spans import Spans

METHOD = "kniv.v1.AnnotationService/AnnotateText"


class Recorder:
    def __init__(self) -> None:
        self.labels: list[dict[str, str]] = []

    def __call__(self, value: float, labels: dict[str, str], context: Context) -> None:
        self.labels.append(labels)


class Told:
    """The context of a call."""

    def __init__(self, code: Any = None, left: float | None = None) -> None:
        self._code, self._left, self.written = code, left, []  # type: ignore[var-annotated]

    def invocation_metadata(self) -> None:
        return None

    def code(self) -> Any:
        return self._code

    def time_remaining(self) -> float | None:
        return self._left

    async def read(self) -> bytes:
        return b"abc"

    async def write(self, message: bytes) -> None:
        self.written.append(message)


class Calls:
    def __init__(self) -> None:
        self.ended, self.items = Recorder(), Recorder()
        spans = Spans(None, Resource({}), "0", 1.0)
        self.meter = CallMeter(spans, False, self.ended, Recorder(), Recorder(), self.items)

    async def followed(self, handler: Any, method: str = METHOD) -> Any:
        async def continuation(details: Any) -> Any:
            return handler

        details = SimpleNamespace(method=f"/{method}", invocation_metadata=())
        return await CallInterceptor(self.meter).intercept_service(continuation, details)

    def statuses(self) -> list[str]:
        return [labels["grpc.status"] for labels in self.ended.labels]


@pytest.mark.parametrize(("left", "status"), [(None, "CANCELLED"), (5.0, "CANCELLED"), (0.0, "DEADLINE_EXCEEDED")])
@pytest.mark.parametrize("make", [grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler])
def test_cancellation_is_raised_again(make: Any, left: float | None, status: str) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def handle(request: Any, context: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        handler = await calls.followed(make(handle))
        inner = handler.unary_unary or handler.stream_stream
        task = asyncio.create_task(inner(b"", Told(left=left)))
        await begun.wait()
        assert calls.meter.active[METHOD] == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    calls = Calls()
    asyncio.run(main())
    assert calls.statuses() == [status]
    assert calls.meter.active[METHOD] == 0


@pytest.mark.parametrize(
    ("code", "status"), [(None, "UNKNOWN"), (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"), (8, "RESOURCE_EXHAUSTED")]
)
def test_an_error_passes_with_its_status(code: Any, status: str) -> None:
    async def main() -> None:
        async def handle(request: Any, context: Any) -> None:
            raise ValueError

        handler = await calls.followed(grpc.unary_unary_rpc_method_handler(handle))
        with pytest.raises(ValueError):  # the very one
            await handler.unary_unary(b"", Told(code))

    calls = Calls()
    asyncio.run(main())
    assert calls.statuses() == [status]


def test_generators_are_followed_to_their_end() -> None:
    async def main() -> list[bytes]:
        async def handle(request: Any, context: Any) -> AsyncIterator[bytes]:
            yield b"1"
            yield b"2"

        handler = await calls.followed(grpc.unary_stream_rpc_method_handler(handle))
        return [response async for response in handler.unary_stream(b"", Told())]

    calls = Calls()
    assert asyncio.run(main()) == [b"1", b"2"]
    assert calls.statuses() == ["OK"]


def test_handlers_that_are_no_coroutines_are_left_alone() -> None:
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    assert asyncio.run(Calls().followed(handler)) is handler


def test_methods_that_nobody_knows_are_one() -> None:
    calls = Calls()
    for method in ("a.B/C", "kniv.v1.AnnotationService/D", ""):
        assert asyncio.run(calls.followed(None, method)) is None
    assert calls.ended.labels == [{"grpc.method": "other", "grpc.status": "UNIMPLEMENTED"}] * 3
    assert dict(calls.meter.started) == {"other": 3}


def test_an_item_belongs_to_its_call_and_ends_once() -> None:
    async def main() -> None:
        async def handle(request: Any, context: Any) -> None:
            context.read, context.write  # noqa: B018  # a stream's own are still there
            trail = trails().begin(Kind.TURN, "m", 1, "v")
            assert isinstance(trail, ItemTrail)
            trail.ended(Outcome.CANCELLED)
            trail.ended(Outcome.COMPLETE)

        handler = await calls.followed(grpc.stream_stream_rpc_method_handler(handle))
        await handler.stream_stream(None, Told())

    calls = Calls()
    asyncio.run(main())
    assert calls.items.labels == [{"kniv.item.kind": "turn", "kniv.outcome": "cancelled", "grpc.status": "CANCELLED"}]
    assert calls.statuses() == ["OK"]


@pytest.mark.parametrize(
    ("outcome", "error", "status"),
    [
        (Outcome.COMPLETE, None, "OK"),
        (Outcome.SUPERSEDED, None, "CANCELLED"),
        (Outcome.ABANDONED, None, "CANCELLED"),
        (Outcome.FAILED, InvalidRequestError("turn", "at fault"), "INVALID_ARGUMENT"),
        (Outcome.FAILED, OverloadedError("queue_full", 1.0), "RESOURCE_EXHAUSTED"),
        (Outcome.FAILED, StoppingError("stopping"), "UNAVAILABLE"),
        (Outcome.FAILED, InferenceError("failed"), "INTERNAL"),
        (Outcome.FAILED, ValueError("a mistake of ours"), "INTERNAL"),
    ],
)
def test_an_item_is_counted_by_whose_fault_its_end_is(outcome: Outcome, error: Exception | None, status: str) -> None:
    calls = Calls()
    Call(calls.meter, METHOD, None).begin(Kind.TURN, "m", 1, "v").ended(outcome, error)
    assert [labels["grpc.status"] for labels in calls.items.labels] == [status]
