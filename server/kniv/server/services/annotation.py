"""kniv.v1.AnnotationService on grpc.aio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from kniv.server.errors import InferenceError, InvalidRequestError, ServeError, StoppingError
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.catalogue import Catalogue
from kniv.server.pipeline.segment import Sentence, sentences
from kniv.server.pipeline.types import Timings
from kniv.server.services import convert
from kniv.server.services.items import Items
from kniv.server.services.offsets import Ruler, to_code_points
from kniv.server.services.status import CODES, item_status, rpc_status
from kniv.server.services.stream import AnnotationStream, StreamLimits
from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import model_pb2

log = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Request: TypeAlias = calls.StreamAnnotationsRequest
Method: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
M = TypeVar("M", bound=Message)

SERVICE = calls.DESCRIPTOR.services_by_name["AnnotationService"].full_name

_MAX_PAGE = 100
_SHORT = 4096  # characters up to which segmenting is not worth a thread


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What a call may ask for.

    Attributes:
        inputs, characters: texts, and characters of all of them, in one AnnotateText call.
        stream: what one stream may hold.
        default_priority: level of requests that name none.
    """

    inputs: int = 1024
    characters: int = 1 << 18
    default_priority: int = 2
    stream: StreamLimits = field(default_factory=StreamLimits)


class AnnotationService:
    """Serves annotations from a catalogue of models.

    Args:
        catalogue: the models.
        limits: what a call may ask for.
        draining: set when the server is about to stop.
    """

    def __init__(self, catalogue: Catalogue, limits: ServiceLimits, draining: asyncio.Event) -> None:
        self._catalogue, self._limits, self._draining = catalogue, limits, draining
        self._calls = 0
        self._idle = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server.

        Requests are parsed here, not by gRPC, which would answer one that cannot be parsed with UNKNOWN and
        end a stream for it.
        """
        unary: dict[str, tuple[Method, type[Message]]] = {
            "AnnotateText": (self.annotate_text, calls.AnnotateTextRequest),
            "ListModels": (self.list_models, calls.ListModelsRequest),
            "GetModel": (self.get_model, calls.GetModelRequest),
        }
        handlers = {name: _unary(self._counted(method), kind) for name, (method, kind) in unary.items()}
        handlers["StreamAnnotations"] = grpc.stream_stream_rpc_method_handler(
            self._counted(self.stream_annotations),
            response_serializer=calls.StreamAnnotationsResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def idle(self) -> None:
        """Wait until no call is under way."""
        while self._calls:
            self._idle.clear()
            await self._idle.wait()

    async def annotate_text(self, request: calls.AnnotateTextRequest, context: Context) -> calls.AnnotateTextResponse:
        """Annotate a few texts."""
        started = perf_counter()
        options = self._options(request.options, "options")
        if len(request.inputs) > self._limits.inputs:
            problem = f"{len(request.inputs)} texts; at most {self._limits.inputs} a call"
            raise InvalidRequestError("inputs", problem)
        characters = sum(len(text.text) for text in request.inputs)
        if characters > self._limits.characters:
            problem = f"{characters} characters; at most {self._limits.characters} a call, StreamAnnotations takes more"
            raise InvalidRequestError("inputs", problem)
        share = asyncio.Semaphore(self._limits.stream.sentences)
        answers = [self._input(text, place, options, share) for place, text in enumerate(request.inputs)]
        answered = await asyncio.gather(*answers)
        spent = [annotation for _, timings in answered for annotation in timings]
        return calls.AnnotateTextResponse(
            results=[result for result, _ in answered],
            model=convert.reference(options.selection),
            timings=convert.total(spent, perf_counter() - started),
            request_id=request.request_id,
        )

    async def stream_annotations(self, _requests: object, context: Context) -> None:
        """Annotate turns and documents as they come."""
        ends = _Wire(context)
        try:
            first = await self._unless_draining(ends.read())
            if first is not None:
                await self._serve(first, ends)
        except _ClientGoneError:
            log.info("a client went away before its stream had ended")
        except ServeError as error:
            await _abort(context, rpc_status(error))

    async def _serve(self, first: Request, ends: _Wire) -> None:
        """Serve a stream whose first message has come."""
        if first.WhichOneof("message") != "configuration":
            raise InvalidRequestError("message", "a stream's first message must be its configuration")
        configuration, limits = first.configuration, self._limits.stream
        options = self._options(configuration.options, "configuration.options")
        ordered = _ordered(configuration)
        turns = _context_turns(configuration, options.selection.limits.max_context_turns)
        items = Items(options.unit, turns, limits.open_documents, ordered)
        stream = AnnotationStream(options, items, ordered, limits, ends.read, ends.write, self._draining)
        try:
            served_all = await stream.run()
        except ExceptionGroup as failures:
            if failures.subgroup(_ClientGoneError) is not None:
                raise _ClientGoneError from failures
            log.exception("a stream failed")
            raise InferenceError("internal error; the server's log has it") from failures
        if not served_all:
            raise StoppingError("the server is stopping; send what has no answer yet to another")

    async def list_models(self, request: calls.ListModelsRequest, context: Context) -> calls.ListModelsResponse:
        """List the models by name, a page at a time."""
        names = self._catalogue.names()
        if request.page_size < 0:
            raise InvalidRequestError("page_size", "must not be negative")
        rest = [name for name in names if name > request.page_token]
        page = rest[: min(request.page_size or _MAX_PAGE, _MAX_PAGE)]
        full = request.view == model_pb2.MODEL_VIEW_FULL
        return calls.ListModelsResponse(
            models=[convert.model_of(name, self._catalogue.versions(name), full) for name in page],
            next_page_token=page[-1] if len(rest) > len(page) else "",
        )

    async def get_model(self, request: calls.GetModelRequest, context: Context) -> calls.GetModelResponse:
        """Tell what a model can do."""
        versions = self._catalogue.versions(request.name)
        full = request.view != model_pb2.MODEL_VIEW_BASIC
        return calls.GetModelResponse(model=convert.model_of(versions[0].model, versions, full))

    def _counted(self, method: Method) -> Method:
        """The method, counted among the calls under way while it runs."""

        async def counted(request: Any, context: Context) -> Any:
            self._calls += 1
            try:
                return await method(request, context)
            finally:
                self._calls -= 1
                self._idle.set()

        return counted

    async def _unless_draining(self, read: Awaitable[Request | None]) -> Request | None:
        """A stream's first message, unless the server stops before it comes."""
        first, stop = asyncio.ensure_future(read), asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({first, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                raise StoppingError("the server is stopping; configure the stream with another")
            return first.result()
        finally:
            first.cancel()
            stop.cancel()

    def _options(self, message: calls.AnnotationOptions, field_name: str) -> convert.Options:
        return convert.options_of(message, self._catalogue, self._limits.default_priority, field_name)

    async def _input(
        self, message: calls.TextInput, place: int, options: convert.Options, share: asyncio.Semaphore
    ) -> tuple[calls.TextResult, list[Timings]]:
        """Annotate one text of a call; its error stays its own."""
        text, ruler, model = message.text, Ruler(options.unit), convert.reference(options.selection)
        ruler.feed(text)

        async def annotate(sentence: Sentence, index: int, start: int) -> tuple[wire.SentenceAnnotation, Timings]:
            async with share:
                found = await options.selection.annotator.annotate(sentence, index, ask)
                return convert.sentence(found, start, options.unit, model), found.timings

        try:
            predicates = None
            if message.predicates:
                starts = [span.start for span in message.predicates]
                predicates = tuple(to_code_points(starts, text, options.unit, f"inputs[{place}].predicates"))
            previous = message.previous_text if message.HasField("previous_text") else None
            ask = Ask(options.tasks, previous or None, predicates, options.priority)
            cut = sentences(text) if len(text) < _SHORT else await asyncio.to_thread(sentences, text)
            work = [annotate(one, index, ruler.measure(one.start)) for index, one in enumerate(cut)]
            found = await asyncio.gather(*work)
        except ServeError as error:
            return calls.TextResult(error=item_status(error)), []
        except Exception:
            log.exception("a text could not be annotated")
            return calls.TextResult(error=item_status(InferenceError("internal error; the server's log has it"))), []
        annotation = calls.TextAnnotation(sentences=[one for one, _ in found])
        return calls.TextResult(annotation=annotation), [timings for _, timings in found]


def _unary(method: Method, kind: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that parses its request and turns errors into statuses."""

    async def handle(content: bytes, context: Context) -> Message:
        try:
            response: Message = await method(_parsed(kind, content), context)
            return response
        except ServeError as error:
            await _abort(context, rpc_status(error))

    return grpc.unary_unary_rpc_method_handler(handle, response_serializer=lambda message: message.SerializeToString())


def _parsed(kind: type[M], content: bytes) -> M:
    try:
        return kind.FromString(content)
    except DecodeError as error:
        problem = "cannot be parsed: it is no protobuf message of its type, or a string in it is no UTF-8"
        raise InvalidRequestError("message", problem) from error


class _ClientGoneError(Exception):
    """The call cannot be read from or written to any more."""


class _Wire:
    """A call's two ends, whose failures all mean the same."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> Request | None:
        """The next request, None at the client's half-close.

        Raises:
            InvalidRequestError: it cannot be parsed.
            _ClientGoneError: nothing can be read any more.
        """
        try:
            content = await self._context.read()
        except Exception as error:
            raise _ClientGoneError from error
        return None if content is grpc.aio.EOF else _parsed(calls.StreamAnnotationsRequest, content)

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
