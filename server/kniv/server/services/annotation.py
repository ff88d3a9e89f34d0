"""kniv.v1.AnnotationService on grpc.aio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from kniv.server.errors import InferenceError, InvalidRequestError, ServeError
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.version import Lease
from kniv.server.services import convert
from kniv.server.services.access import visit
from kniv.server.services.ending import Ending, Lifetime
from kniv.server.services.items import Items
from kniv.server.services.rpc import Calls, ClientGoneError, Context, Method, Wire, heard, unary, urgency_of
from kniv.server.services.status import abort
from kniv.server.services.stream import AnnotationStream, StreamLimits
from kniv.server.services.texts import Texts
from kniv.server.together import together
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import model_pb2

log = logging.getLogger(__name__)

Request: TypeAlias = calls.StreamAnnotationsRequest

SERVICE = calls.DESCRIPTOR.services_by_name["AnnotationService"].full_name

_MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What a call may ask for.

    Attributes:
        inputs, characters: texts, and characters of all of them, in one AnnotateText call.
        stream: what one stream may hold.
        lifetime: how long it lasts.
    """

    inputs: int = 1024
    characters: int = 1 << 18
    stream: StreamLimits = field(default_factory=StreamLimits)
    lifetime: Lifetime = field(default_factory=Lifetime)


class AnnotationService:
    """Serves annotations from a catalogue of models.

    Args:
        catalogue: the models.
        limits: what a call may ask for.
        draining: set when the server is about to stop.
    """

    def __init__(self, catalogue: Catalogue, limits: ServiceLimits, draining: asyncio.Event) -> None:
        self._catalogue, self._limits, self._draining = catalogue, limits, draining
        self._calls = Calls()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        methods: dict[str, tuple[Method, type[Message]]] = {
            "AnnotateText": (self.annotate_text, calls.AnnotateTextRequest),
            "ListModels": (self.list_models, calls.ListModelsRequest),
            "GetModel": (self.get_model, calls.GetModelRequest),
        }
        handlers = {name: unary(self._calls.counted(method), kind) for name, (method, kind) in methods.items()}
        stream = self._calls.counted(self.stream_annotations)
        handlers["StreamAnnotations"] = grpc.stream_stream_rpc_method_handler(stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def idle(self) -> None:
        """Wait until no call is under way."""
        await self._calls.idle()

    async def annotate_text(self, request: calls.AnnotateTextRequest, context: Context) -> calls.AnnotateTextResponse:
        """Annotate a few texts."""
        started = perf_counter()
        options = convert.options_of(request.options, "options")
        if len(request.inputs) > self._limits.inputs:
            problem = f"{len(request.inputs)} texts; at most {self._limits.inputs} a call"
            raise InvalidRequestError("inputs", problem)
        characters = sum(len(text.text) for text in request.inputs)
        if characters > self._limits.characters:
            problem = f"{characters} characters; at most {self._limits.characters} a call, StreamAnnotations takes more"
            raise InvalidRequestError("inputs", problem)
        most = self._limits.stream.sentences
        urgency = replace(urgency_of(context, patient=False), level=options.priority)
        with self._catalogue.lease(options.model, options.version, options.variant) as lease:
            texts = Texts(options, lease, urgency, asyncio.Semaphore(most), most)
            texts.check(request.inputs)
            answered = await together(texts.answer(text, place) for place, text in enumerate(request.inputs))
        spent = [annotation for _, timings in answered for annotation in timings]
        return calls.AnnotateTextResponse(
            results=[result for result, _ in answered],
            model=convert.reference(lease),
            timings=convert.total(spent, perf_counter() - started),
            request_id=request.request_id,
        )

    async def stream_annotations(self, _requests: object, context: Context) -> None:
        """Annotate turns and documents as they come."""
        lifetime, standing = self._limits.lifetime, visit().standing
        try:
            async with Ending(self._draining, lifetime, standing) as ending:
                ends = Wire(context, calls.StreamAnnotationsRequest, ending.touch)
                first = await _unless_over(ends.read(), ending)
                if first is not None:
                    await self._serve(first, ends, ending)
        except ClientGoneError:
            log.info("%s went away before its stream had ended", visit().caller)
        except ServeError as error:
            await abort(context, error)

    async def _serve(self, first: Request, ends: Wire[Request], ending: Ending) -> None:
        """Serve a stream whose first message has come."""
        if first.WhichOneof("message") != "configuration":
            raise InvalidRequestError("message", "a stream's first message must be its configuration")
        configuration, limits = first.configuration, self._limits.stream
        options = convert.options_of(configuration.options, "configuration.options")
        ordered = _ordered(configuration)

        def lease() -> Lease:
            return self._catalogue.lease(options.model, options.version, options.variant)

        with lease() as first_lease:
            turns = _context_turns(configuration, first_lease.limits.max_context_turns)
            configured = calls.StreamConfigured(
                model=convert.reference(first_lease), tasks=convert.tasks_of(options.tasks)
            )

        async def write(response: calls.StreamAnnotationsResponse) -> None:
            await ends.write(response.SerializeToString())

        items = Items(options.unit, turns, limits.open_documents, ordered, lease)
        ending.hand_back = items.give_up
        caller = replace(urgency_of(ends.context, patient=True), level=options.priority)
        stream = AnnotationStream(options, caller, items, ordered, limits, ends.read, write, ending.stop)
        try:
            served_all = await stream.run(configured)
        except ExceptionGroup as failures:
            if failures.subgroup(ClientGoneError) is not None:
                raise ClientGoneError from failures
            log.exception("a stream failed")
            raise InferenceError("internal error; the server's log has it") from failures
        if not served_all:
            raise ending.error

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
        name = request.name or self._catalogue.default_model
        full = request.view != model_pb2.MODEL_VIEW_BASIC
        return calls.GetModelResponse(model=convert.model_of(name, self._catalogue.versions(name), full))


async def _unless_over(read: Awaitable[Request | None], ending: Ending) -> Request | None:
    """A stream's first message, unless the stream is to end before it comes."""
    first, stop = asyncio.ensure_future(read), asyncio.ensure_future(ending.stop.wait())
    first.add_done_callback(heard)
    try:
        await asyncio.wait({first, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            raise ending.error
        return first.result()
    finally:
        first.cancel()
        stop.cancel()


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
