"""Callers of all four calls that work is done for, and what the fresh one must be answered."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc
from tests.e2e.wire import Request, answer, completions, configuration, errors, sentences_of, turn
from tests.server.services.inference.requests import row_request
from tritonclient.grpc import service_pb2_grpc

from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

TEXT = "We walked along the river and saw three old boats."
ONE_ROW = {"tasks": [wire.TASK_POS]}
# The exact graph: what it answers does not depend on who shares a batch.
EXACT = {"variant": "fp32"}


class Call(Protocol):
    """A call under way: what gRPC's futures and streams have in common."""

    def cancel(self) -> bool: ...

    def code(self) -> grpc.StatusCode: ...


@contextmanager
def channel_to(target: str) -> Iterator[grpc.Channel]:
    """A connection of its own."""
    # Without the probe a client that does not read has at most some 64 KB sent to it, and not megabytes.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(target, options) as channel:
        yield channel


class Requests:
    """A stream's requests, sent as they are put here; the stream stays open until :meth:`end`."""

    def __init__(self, *first: Any) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in first:
            self._queue.put(request)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)

    def put(self, request: Any) -> None:
        self._queue.put(request)

    def end(self) -> None:
        self._queue.put(None)


def unary(channel: grpc.Channel, timeout: float | None = None) -> Call:
    """AnnotateText of one sentence, one row."""
    options = calls.AnnotationOptions(**ONE_ROW)
    request = calls.AnnotateTextRequest(inputs=[calls.TextInput(text=TEXT)], options=options)
    return stubs.AnnotationServiceStub(channel).AnnotateText.future(request, timeout=timeout)


def stream(channel: grpc.Channel, timeout: float | None = None) -> Call:
    """StreamAnnotations of one turn, one row."""
    requests = iter([configuration(options=ONE_ROW), turn("1", TEXT)])
    return stubs.AnnotationServiceStub(channel).StreamAnnotations(requests, timeout=timeout)


def raw_unary(channel: grpc.Channel, timeout: float | None = None) -> Call:
    """ModelInfer of one row."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return stub.ModelInfer.future(row_request([[1, 2, 3, 4]]), timeout=timeout)


def raw_stream(channel: grpc.Channel, timeout: float | None = None) -> Call:
    """ModelStreamInfer of one row."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return stub.ModelStreamInfer(iter([row_request([[1, 2, 3, 4]])]), timeout=timeout)


Begin = Callable[..., Call]
KINDS: tuple[Begin, ...] = (unary, stream, raw_unary, raw_stream)


def fresh(target: str) -> list[wire.SentenceAnnotation]:
    """What a new caller is answered, by a unary call and by a stream, which must agree."""
    with channel_to(target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        asked = calls.AnnotateTextRequest(inputs=[calls.TextInput(text=TEXT)], options=calls.AnnotationOptions(**EXACT))
        (result,) = stub.AnnotateText(asked, timeout=60).results
        requests: list[Request] = [configuration(options=EXACT), turn("1", TEXT)]
        responses = list(stub.StreamAnnotations(iter(requests), timeout=60))
    streamed = [answer(one) for one in sentences_of(responses, "1")]
    assert not errors(responses) and completions(responses)["1"].sentence_count == 1
    assert [answer(one) for one in result.annotation.sentences] == streamed
    (sentence,) = streamed
    assert sentence.text == TEXT and all(token.upos for token in sentence.tokens)
    return streamed
