"""What callers see: the listeners, the services behind them, and how they close."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.services import inference
from kniv.server.services.access import Access
from kniv.server.services.annotation import SERVICE, AnnotationService, ServiceLimits
from kniv.server.services.reflection import add_reflection
from kniv.server.services.stream import StreamLimits
from kniv.server.settings import ServeSettings

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.5  # for the last statuses to leave
_NEVER = 1e6  # seconds
# A client that is silent for so long during a call is pinged, and given up if it does not answer in the other time.
_KEEPALIVE_SECONDS, _KEEPALIVE_TIMEOUT = 60.0, 20.0
_SERVING = health_pb2.HealthCheckResponse.SERVING


def _not_of_one_who_left(record: logging.LogRecord) -> bool:
    """Whether a record of gRPC's is about anything but a status that could not be sent, for its client had gone."""
    return record.exc_info is None or not isinstance(record.exc_info[1], grpc.aio.InternalError)


logging.getLogger("grpc._cython.cygrpc").addFilter(_not_of_one_who_left)


class Front:
    """The gRPC servers: one for callers and, where the settings ask for it, one for administrators.

    Args:
        settings: addresses and limits.
        catalogue, control: the models.
        draining: set when the server is to stop.

    Raises:
        ServeError: the administrators' token cannot be read.
        OSError: an address cannot be listened on.
    """

    def __init__(
        self, settings: ServeSettings, catalogue: Catalogue, control: ModelControl, draining: asyncio.Event
    ) -> None:
        self.draining = draining
        self._settings = settings
        limits = ServiceLimits(
            inputs=settings.call_inputs,
            characters=settings.call_characters,
            stream=StreamLimits(sentences=settings.stream_sentences),
        )
        access = Access.of(settings.admin_token_file, elsewhere=settings.admin_port is not None)
        self._annotation = AnnotationService(catalogue, limits, draining)
        self._inference = inference.InferenceService(catalogue, control, draining, access)
        self._checks = health.aio.HealthServicer()
        server, self._port = self._listen(settings.port)
        self._annotation.add_to(server)
        self._inference.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._checks, server)
        add_reflection(server, (SERVICE, inference.SERVICE, health.SERVICE_NAME))
        self._servers = [server]
        if settings.admin_port is not None:
            admin, port = self._listen(settings.admin_port)
            every = Access.of(settings.admin_token_file, elsewhere=False)
            inference.InferenceService(catalogue, control, draining, every).add_to(admin)
            self._servers.append(admin)
            log.info("administrators' calls are served on %s:%d", settings.host, port)

    async def start(self) -> int:
        """Answer calls from now on; the callers' port."""
        for server in self._servers:
            await server.start()
        for name in ("", SERVICE, inference.SERVICE):
            await self._checks.set(name, _SERVING)
        return self._port

    async def drain(self, seconds: float, forced: asyncio.Event) -> None:
        """Stop once all calls for work have ended, the time is up or a second signal has come, whichever is first.

        Other calls (a health check being watched, reflection) never end by themselves and are not waited for.
        """
        await self._checks.enter_graceful_shutdown()
        idle = asyncio.gather(self._annotation.idle(), self._inference.idle())
        # Without end, and hastened below by None: gRPC crashes if the server is gone when a stop's own time is up.
        stop = asyncio.gather(*(server.stop(_NEVER) for server in self._servers))
        force = asyncio.create_task(forced.wait())
        waiting: set[asyncio.Future[Any]] = {stop, idle, force}
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if forced.is_set():
            log.warning("second signal: stopping at once")
        elif done:
            await asyncio.wait({stop}, timeout=min(seconds, _FLUSH_SECONDS))
        await asyncio.gather(*(server.stop(None) for server in self._servers))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    def _listen(self, port: int) -> tuple[grpc.aio.Server, int]:
        """A server that listens, with the port it got."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._settings.message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", round(_KEEPALIVE_SECONDS * 1e3)),
                ("grpc.keepalive_timeout_ms", round(_KEEPALIVE_TIMEOUT * 1e3)),
                ("grpc.http2.ping_timeout_ms", round(_KEEPALIVE_TIMEOUT * 1e3)),  # the one that ends the connection
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
            ]
        )
        host = self._settings.host
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            return server, server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
