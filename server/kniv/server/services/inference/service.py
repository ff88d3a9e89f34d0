"""inference.GRPCInferenceService on grpc.aio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InferenceError, ServeError, UnsupportedError
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.security.caller import Grant
from kniv.server.services.access import visit
from kniv.server.services.ending import Ending, Lifetime
from kniv.server.services.inference import admin, logs
from kniv.server.services.inference.health import model_ready, server_ready
from kniv.server.services.inference.infer import InferenceLimits, admit
from kniv.server.services.inference.metadata import model_config, model_metadata, server_metadata
from kniv.server.services.inference.room import Room
from kniv.server.services.inference.statistics import model_statistics
from kniv.server.services.inference.stream import InferenceStream
from kniv.server.services.inference.tracing import Sampling, Tracing
from kniv.server.services.rpc import Calls, ClientGoneError, Context, Method, Wire, unary, urgency_of
from kniv.server.services.status import abort

log = logging.getLogger(__name__)

_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE = _DESCRIPTOR.full_name
_USUAL_LIMITS, _USUAL_LIFETIME = InferenceLimits(), Lifetime()


class InferenceService:
    """Serves raw tensors, and the control of the repository, to clients of KServe v2 and Triton.

    Args:
        catalogue: the models.
        control: loads and unloads them.
        draining: set when the server is about to stop.
        limits: what raw requests may ask for.
        lifetime: how long streams last.
        leaving: set when requests are to go elsewhere; ``draining`` if it is None.
        sampling: of traces; None if none are made.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        control: ModelControl,
        draining: asyncio.Event,
        limits: InferenceLimits = _USUAL_LIMITS,
        lifetime: Lifetime = _USUAL_LIFETIME,
        leaving: asyncio.Event | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._tracing = Tracing(sampling)
        self._leaving = leaving or draining
        self._catalogue, self._control, self._draining = catalogue, control, draining
        self._admit = partial(admit, catalogue=catalogue, limits=limits, room=Room(limits.total_bytes))
        self._limits, self._lifetime = limits, lifetime
        self._calls = Calls()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        methods: dict[str, Method] = {
            "ServerLive": _plain(lambda request: pb.ServerLiveResponse(live=True)),
            "ServerReady": _plain(lambda request: self._server_ready()),
            "ServerMetadata": _plain(lambda request: server_metadata()),
            "ModelReady": _plain(partial(model_ready, catalogue=self._catalogue)),
            "ModelMetadata": _plain(partial(model_metadata, catalogue=self._catalogue)),
            "ModelConfig": _plain(partial(model_config, catalogue=self._catalogue)),
            "ModelStatistics": _plain(partial(model_statistics, catalogue=self._catalogue)),
            "ModelInfer": self._infer,
            "RepositoryIndex": _awaited(partial(admin.repository_index, control=self._control)),
            "RepositoryModelLoad": _awaited(partial(admin.load, control=self._control)),
            "RepositoryModelUnload": _awaited(partial(admin.unload, control=self._control)),
            "LogSettings": self._log_settings,
            "TraceSetting": self._trace_setting,
        }
        handlers: dict[str, Any] = {}
        for call in _DESCRIPTOR.methods:
            kind = getattr(pb, call.input_type.name)
            method = methods.get(call.name, _shared_memory)
            handlers[call.name] = unary(self._calls.counted(method), kind)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._calls.counted(self._stream))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def idle(self) -> None:
        """Wait until no call is under way."""
        await self._calls.idle()

    def _server_ready(self) -> pb.ServerReadyResponse:
        ready = server_ready(self._catalogue, self._control.mode, self._leaving.is_set())
        return pb.ServerReadyResponse(ready=ready)

    async def _infer(self, request: pb.ModelInferRequest, context: Context) -> bytes:
        work = await self._admit(request, urgency_of(context, patient=False))
        try:
            return await work.answer(in_stream=False)
        finally:
            work.release()

    async def _stream(self, _requests: object, context: Context) -> None:
        calls = partial(self._admit, caller=urgency_of(context, patient=True))
        try:
            async with Ending(self._draining, self._lifetime, visit().standing) as ending:
                wire = Wire(context, pb.ModelInferRequest, ending.touch)
                stream = InferenceStream(calls, self._limits, wire.read, wire.write, ending.stop)
                ending.hand_back = stream.hand_back
                if not await stream.run():
                    raise ending.error
        except ServeError as error:
            await abort(context, error)
        except ExceptionGroup as failures:
            if failures.subgroup(ClientGoneError) is None:
                log.exception("a stream of raw requests failed")
                await abort(context, InferenceError("internal error; the server's log has it"))
            log.info("%s went away before its stream had ended", visit().caller)

    async def _log_settings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        if request.settings:
            visit().require(Grant.ADMIN)
            logs.change_log_settings(request)
        return logs.log_settings()

    async def _trace_setting(self, request: pb.TraceSettingRequest, context: Context) -> pb.TraceSettingResponse:
        if request.settings:
            visit().require(Grant.ADMIN)
        if request.model_name:
            self._catalogue.versions(request.model_name)
        return self._tracing.settings(request)


def _plain(answer: Callable[[Any], Any]) -> Method:
    """A method that needs neither the call nor the loop."""

    async def method(request: Any, context: Context) -> Any:
        return answer(request)

    return method


def _awaited(answer: Callable[[Any], Awaitable[Any]]) -> Method:
    """A method that does not need the call."""

    async def method(request: Any, context: Context) -> Any:
        return await answer(request)

    return method


async def _shared_memory(request: Any, context: Context) -> Any:
    raise UnsupportedError("shared memory is not served; send and take tensors in the messages")
