"""kniv.v1.AnnotationService on grpc.aio."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NoReturn

import grpc
from google.rpc import status_pb2

from kniv.server.errors import InferenceError, InvalidRequestError, NotFoundError, ServeError
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.catalogue import Catalogue
from kniv.server.pipeline.segment import Sentence, sentences
from kniv.server.pipeline.types import SentenceAnnotation
from kniv.server.services import convert
from kniv.server.services.items import Items
from kniv.server.services.offsets import Ruler, to_code_points
from kniv.server.services.status import CODES, item_status, rpc_status
from kniv.server.services.stream import AnnotationStream, StreamLimits
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs
from kniv.v1 import model_pb2

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_PAGE = 100
_SHORT = 4096  # characters up to which segmenting is not worth a thread


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What a call may ask for.

    Attributes:
        inputs: texts in one AnnotateText call.
        stream: what one stream may hold.
        default_priority: level of requests that name none.
    """

    inputs: int = 1024
    default_priority: int = 2
    stream: StreamLimits = field(default_factory=StreamLimits)


class AnnotationService(stubs.AnnotationServiceServicer):
    """Serves annotations from a catalogue of models.

    Args:
        catalogue: the models.
        limits: what a call may ask for.
        draining: set when the server is about to stop.
    """

    def __init__(self, catalogue: Catalogue, limits: ServiceLimits, draining: asyncio.Event) -> None:
        self._catalogue, self._limits, self._draining = catalogue, limits, draining

    async def AnnotateText(self, request: calls.AnnotateTextRequest, context: Context) -> calls.AnnotateTextResponse:  # noqa: N802
        """Annotate a few texts."""
        started = perf_counter()
        try:
            options = self._options(request.options, "options")
            if len(request.inputs) > self._limits.inputs:
                raise InvalidRequestError(
                    "inputs", f"{len(request.inputs)} texts; at most {self._limits.inputs} a call"
                )
        except ServeError as error:
            await _abort(context, rpc_status(error))
        share = asyncio.Semaphore(self._limits.stream.sentences)
        answers = [self._input(text, place, options, share) for place, text in enumerate(request.inputs)]
        answered = await asyncio.gather(*answers)
        found = [annotation for _, annotations in answered for annotation in annotations]
        return calls.AnnotateTextResponse(
            results=[result for result, _ in answered],
            model=convert.reference(options.selection),
            timings=convert.total((annotation.timings for annotation in found), perf_counter() - started),
            request_id=request.request_id,
        )

    async def StreamAnnotations(self, _requests: object, context: Context) -> None:  # noqa: N802
        """Annotate turns and documents as they come."""
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        try:
            if first.WhichOneof("message") != "configuration":
                raise InvalidRequestError("message", "a stream's first message must be its configuration")
            configuration = first.configuration
            options = self._options(configuration.options, "configuration.options")
            ordered = _ordered(configuration)
            turns = _context_turns(configuration, options.selection.limits.max_context_turns)
        except ServeError as error:
            await _abort(context, rpc_status(error))

        limits = self._limits.stream
        items = Items(options.unit, turns, limits.open_documents, ordered)
        wire = _Wire(context)
        stream = AnnotationStream(options, items, ordered, limits, wire.read, wire.write, self._draining)
        try:
            await stream.run()
        except* _ClientGoneError:
            log.info("a client went away before its stream had ended")
        except* Exception as errors:
            log.exception("a stream failed")
            status = rpc_status(InferenceError(f"internal error: {type(errors.exceptions[0]).__name__}"))
            await _abort(context, status)
        if self._draining.is_set() and not context.done():
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "the server is stopping; send what has no answer yet to another"
            )

    async def ListModels(self, request: calls.ListModelsRequest, context: Context) -> calls.ListModelsResponse:  # noqa: N802
        """List the models by name, a page at a time."""
        names = self._catalogue.names()
        if request.page_size < 0:
            await _abort(context, rpc_status(InvalidRequestError("page_size", "must not be negative")))
        rest = [name for name in names if name > request.page_token]
        page = rest[: min(request.page_size or _MAX_PAGE, _MAX_PAGE)]
        full = request.view == model_pb2.MODEL_VIEW_FULL
        return calls.ListModelsResponse(
            models=[convert.model_of(name, self._catalogue.versions(name), full) for name in page],
            next_page_token=page[-1] if len(rest) > len(page) else "",
        )

    async def GetModel(self, request: calls.GetModelRequest, context: Context) -> calls.GetModelResponse:  # noqa: N802
        """Tell what a model can do."""
        try:
            versions = self._catalogue.versions(request.name)
        except NotFoundError as error:
            await _abort(context, rpc_status(error))
        full = request.view != model_pb2.MODEL_VIEW_BASIC
        return calls.GetModelResponse(model=convert.model_of(versions[0].model, versions, full))

    def _options(self, message: calls.AnnotationOptions, field_name: str) -> convert.Options:
        return convert.options_of(message, self._catalogue, self._limits.default_priority, field_name)

    async def _input(
        self, message: calls.TextInput, place: int, options: convert.Options, share: asyncio.Semaphore
    ) -> tuple[calls.TextResult, list[SentenceAnnotation]]:
        """Annotate one text of a call; its error stays its own."""
        text = message.text
        try:
            predicates = None
            if message.predicates:
                starts = [span.start for span in message.predicates]
                predicates = tuple(to_code_points(starts, text, options.unit, f"inputs[{place}].predicates"))
            cut = sentences(text) if len(text) < _SHORT else await asyncio.to_thread(sentences, text)
            previous = message.previous_text if message.HasField("previous_text") else None
            ask = Ask(options.tasks, previous or None, predicates, options.priority)

            async def annotate(sentence: Sentence, index: int) -> SentenceAnnotation:
                async with share:
                    return await options.selection.annotator.annotate(sentence, index, ask)

            found = await asyncio.gather(*(annotate(one, index) for index, one in enumerate(cut)))
        except ServeError as error:
            return calls.TextResult(error=item_status(error)), []
        ruler, model = Ruler(options.unit), convert.reference(options.selection)
        ruler.feed(text)
        wire = [convert.sentence(one, ruler.measure(one.start), options.unit, model) for one in found]
        return calls.TextResult(annotation=calls.TextAnnotation(sentences=wire)), list(found)


class _ClientGoneError(Exception):
    """The call cannot be read from or written to any more."""


class _Wire:
    """A call's two ends, whose failures all mean the same."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> calls.StreamAnnotationsRequest | None:
        """The next request, None at the client's half-close."""
        try:
            message = await self._context.read()
        except Exception as error:
            raise _ClientGoneError from error
        return None if message is grpc.aio.EOF else message

    async def write(self, response: calls.StreamAnnotationsResponse) -> None:
        """Put a response on the wire."""
        try:
            await self._context.write(response)
        except Exception as error:
            raise _ClientGoneError from error


def _ordered(configuration: calls.StreamConfiguration) -> bool:
    known = (calls.ORDERING_UNSPECIFIED, calls.ORDERING_AS_READY, calls.ORDERING_IN_ORDER)
    if configuration.ordering not in known:
        raise InvalidRequestError("configuration.ordering", f"unknown ordering {configuration.ordering}")
    return configuration.ordering == calls.ORDERING_IN_ORDER


def _context_turns(configuration: calls.StreamConfiguration, most: int) -> int:
    if not configuration.HasField("context_turns"):
        return min(1, most)
    if not 0 <= configuration.context_turns <= most:
        raise InvalidRequestError("configuration.context_turns", f"must be 0 to {most}, the model's max_context_turns")
    return configuration.context_turns


async def _abort(context: Context, status: status_pb2.Status) -> NoReturn:
    """End a call with a status and its details."""
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(CODES[status.code], status.message, details)
    raise AssertionError("abort returned")
