"""A server in this process that answers by rule, and both clients behind one face."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from typing import Any, Self

import grpc
import pytest

from kniv.client import AsyncClient, Client
from kniv.v1 import annotation_pb2, annotation_service_pb2, annotation_service_pb2_grpc, model_pb2, status_pb2

Response = annotation_service_pb2.StreamAnnotationsResponse
MODEL = annotation_pb2.ModelReference(name="fake", version=3, variant="int8")
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


def sentence(text: str, index: int = 0, start: int = 0) -> annotation_pb2.SentenceAnnotation:
    """Words by pattern; the first is the root, words in capitals are people, the second is a predicate."""
    words = list(re.finditer(r"\w+|[^\w\s]", text))
    answer = annotation_pb2.SentenceAnnotation(index=index, text=text, model=MODEL)
    answer.span.start, answer.span.end = start, start + len(text)
    for place, word in enumerate(words):
        span = annotation_pb2.Span(start=start + word.start(), end=start + word.end())
        dependency = annotation_pb2.Dependency(head=0, relation="dep" if place else "root")
        answer.tokens.add(text=word.group(), span=span, upos="X", dependency=dependency)
        if word.group().istitle():
            answer.entities.add(type="PERSON", first_token=place, end_token=place + 1, span=span, text=word.group())
    if len(words) > 1:
        frame = answer.frames.add(predicate=1)
        frame.arguments.add(role="ARG0", first_token=0, end_token=1, span=answer.tokens[0].span, text=words[0].group())
    answer.dialog_act.label = "question" if "?" in text else "statement"
    answer.dialog_act.score = 0.75
    return answer


def sentences(text: str) -> list[annotation_pb2.SentenceAnnotation]:
    """One sentence a line."""
    lines = [match for match in re.finditer(r"[^\n]+", text) if match.group().strip()]
    return [sentence(line.group(), index, line.start()) for index, line in enumerate(lines)]


def stream_configured() -> Response:
    return Response(
        configured=annotation_service_pb2.StreamConfigured(model=MODEL, tasks=[annotation_pb2.TASK_POS, 99])
    )


def item_answers(item: annotation_service_pb2.ItemReference, text: str, speaker: str = "") -> Iterator[Response]:
    if text == "bad":
        error = status_pb2.Status(code=INVALID, message="text: is bad")
        yield Response(error=annotation_service_pb2.ItemError(item=item, error=error))
        return
    found = sentences(text)
    for annotation in found:
        yield Response(
            sentence=annotation_service_pb2.SentenceResult(item=item, annotation=annotation, speaker=speaker)
        )
    done = annotation_service_pb2.ItemCompletion(
        item=item, outcome=annotation_service_pb2.OUTCOME_COMPLETE, sentence_count=len(found)
    )
    yield Response(completion=done)


class FakeServer(annotation_service_pb2_grpc.AnnotationServiceServicer):
    """Answers by rule; ``script`` replaces what a stream does, ``refuse`` what unary calls do."""

    def __init__(self) -> None:
        self.target = ""
        self.received: list[Any] = []
        self.left = threading.Event()
        self.release = threading.Event()
        self.script: Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Response]] = self.answer
        self.refuse: Callable[[grpc.ServicerContext], None] = lambda context: None

    def AnnotateText(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.received.append(request)
        self.refuse(context)
        response = annotation_service_pb2.AnnotateTextResponse(model=MODEL)
        for entry in request.inputs:
            if entry.text == "bad":
                response.results.add(error=status_pb2.Status(code=INVALID, message="text: is bad"))
            else:
                response.results.add().annotation.sentences.extend(sentences(entry.text))
        return response

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        page = int(request.page_token or 0)
        version = model_pb2.ModelVersion(version=1, variants=["fp32", "int8"], default_variant="int8", ready=page != 1)
        version.tasks.append(annotation_pb2.TASK_DIALOG_ACT)
        if page == 1:
            version.reason = "no weights"
        model = model_pb2.Model(name=f"model-{page}", versions=[version])
        following = str(page + 1) if page < 2 else ""
        return annotation_service_pb2.ListModelsResponse(models=[model], next_page_token=following)

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.refuse(context)
        version = model_pb2.ModelVersion(version=1, ready=True)
        version.labels.dialog_acts.extend(["question", "statement"])
        version.limits.max_subwords = 128
        return annotation_service_pb2.GetModelResponse(
            model=model_pb2.Model(name=request.name or "default", versions=[version])
        )

    def StreamAnnotations(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Response]:
        context.add_callback(self.left.set)
        yield from self.script(requests, context)

    def answer(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Response]:
        documents: dict[str, bytes] = {}
        for request in requests:
            self.received.append(request)
            match request.WhichOneof("message"):
                case "configuration":
                    yield stream_configured()
                case "turn":
                    item = annotation_service_pb2.ItemReference(
                        turn_id=request.turn.turn_id, revision=request.turn.revision
                    )
                    yield from item_answers(item, request.turn.text, request.turn.speaker)
                case "document_chunk":
                    chunk = request.document_chunk
                    documents[chunk.document_id] = documents.get(chunk.document_id, b"") + chunk.content
                    if chunk.last:
                        item = annotation_service_pb2.ItemReference(document_id=chunk.document_id)
                        yield from item_answers(item, documents.pop(chunk.document_id).decode())
                case "cancellation":
                    done = annotation_service_pb2.ItemCompletion(
                        item=request.cancellation.item, outcome=annotation_service_pb2.OUTCOME_CANCELLED
                    )
                    yield Response(completion=done)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    servicer = FakeServer()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    annotation_service_pb2_grpc.add_AnnotationServiceServicer_to_server(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    servicer.release.set()
    server.stop(0).wait()


@pytest.fixture
def configured() -> Response:
    return stream_configured()


class AsyncFace:
    """A client for threads, or its stream, used as if it were the one for asyncio."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return attribute

        async def call(*arguments: Any, **named: Any) -> Any:
            return attribute(*arguments, **named)

        return call

    def stream(self, **options: Any) -> AsyncFace:
        return AsyncFace(self._inner.stream(**options))

    async def __aenter__(self) -> Self:
        self._inner.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for event in self._inner:
            return event
        raise StopAsyncIteration


Scenario = Callable[[Any], Awaitable[None]]


@pytest.fixture(params=["threads", "asyncio"])
def run(request: pytest.FixtureRequest, fake: FakeServer) -> Callable[[Scenario], None]:
    """Run a scenario, written against AsyncClient, with either client."""

    async def with_client(scenario: Scenario) -> None:
        client: Any = AsyncClient(fake.target) if request.param == "asyncio" else AsyncFace(Client(fake.target))
        async with client:
            await scenario(client)

    return lambda scenario: asyncio.run(with_client(scenario))
