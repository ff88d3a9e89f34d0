"""The little that a load generator needs of a client: no conversion of answers, so that it costs little itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc.aio

from kniv.v1 import annotation_pb2, annotation_service_pb2, annotation_service_pb2_grpc

VARIANT = "int8"
ALL: tuple[str, ...] = ()
DIALOG_ACT = ("TASK_DIALOG_ACT",)

Request = annotation_service_pb2.StreamAnnotationsRequest
Response = annotation_service_pb2.StreamAnnotationsResponse
Annotation = annotation_pb2.SentenceAnnotation
R = TypeVar("R")

_LOOP = asyncio.Runner()  # gRPC keeps to the first event loop of a process


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run a load generator's work in the process's one event loop."""
    return _LOOP.run(work)


def connect(target: str) -> grpc.aio.Channel:
    """A connection of its own, shared with no other channel."""
    return grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])


def stub(channel: grpc.aio.Channel) -> Any:
    """The service's methods; the generated class has no types."""
    made: Any = annotation_service_pb2_grpc.AnnotationServiceStub(channel)
    return made


def options(tasks: tuple[str, ...], priority: int) -> annotation_service_pb2.AnnotationOptions:
    """The INT8 variant, these tasks (none for all), this priority level (0 for the server's default)."""
    return annotation_service_pb2.AnnotationOptions(variant=VARIANT, tasks=tasks, priority=priority)


def configuration(tasks: tuple[str, ...], priority: int) -> Request:
    """First message of a stream."""
    given = annotation_service_pb2.StreamConfiguration(options=options(tasks, priority))
    return Request(configuration=given)


def turn(name: str, text: str) -> Request:
    """A turn."""
    return Request(turn=annotation_service_pb2.Turn(turn_id=name, text=text))


def document(name: str, text: str) -> Request:
    """A whole document."""
    chunk = annotation_service_pb2.DocumentChunk(document_id=name, content=text.encode(), last=True)
    return Request(document_chunk=chunk)
