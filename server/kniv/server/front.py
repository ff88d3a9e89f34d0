"""What callers see: the listeners, the services behind them, and how they close."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from math import inf
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.security.configure import authenticator_of, channel_options, quotas_of, tls_of, warn_of_openness
from kniv.server.services import health, inference
from kniv.server.services.access import Access
from kniv.server.services.annotation import SERVICE, AnnotationService, ServiceLimits
from kniv.server.services.ending import Lifetime
from kniv.server.services.health import Health
from kniv.server.services.inference.health import server_ready
from kniv.server.services.reflection import add_reflection
from kniv.server.services.stream import StreamLimits
from kniv.server.settings import ServeSettings
from kniv.server.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

_NO_TELEMETRY = Telemetry()
_FLUSH_SECONDS = 0.5  # for the last statuses to leave
_NEVER = 1e6  # seconds
# A client that is silent for so long during a call is pinged, and given up if it does not answer in the other time.
_KEEPALIVE_SECONDS, _KEEPALIVE_TIMEOUT = 60.0, 20.0


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
        live: whether nothing is wrong that a restart would mend.
        telemetry: follows the calls.

    Raises:
        ServeError: certificates, keys or callers cannot be read.
        OSError: an address cannot be listened on.
    """

    def __init__(
        self,
        settings: ServeSettings,
        catalogue: Catalogue,
        control: ModelControl,
        draining: asyncio.Event,
        live: Callable[[], bool] = lambda: True,
        telemetry: Telemetry = _NO_TELEMETRY,
    ) -> None:
        self._leaving = asyncio.Event()
        self._settings = settings
        warn_of_openness(settings, settings.host)
        ages = settings.stream_age_seconds or inf, settings.stream_idle_seconds or inf
        lifetime = Lifetime(*ages, grace=settings.drain_seconds)
        limits = ServiceLimits(
            inputs=settings.call_inputs,
            characters=settings.call_characters,
            stream=StreamLimits(sentences=settings.stream_sentences),
            lifetime=lifetime,
        )
        self._annotation = AnnotationService(catalogue, limits, draining)
        self._interceptors = telemetry.interceptors
        self._inference = inference.InferenceService(
            catalogue, control, draining, lifetime=lifetime, leaving=self._leaving, sampling=telemetry.sampling
        )
        self._checks = Health(
            catalogue, (SERVICE, inference.SERVICE), lambda: server_ready(catalogue, control.mode, False), live
        )
        self._authenticator, self._quotas = authenticator_of(settings), quotas_of(settings)
        self._tls = tls_of(settings)
        server, self._port = self._listen(settings.port, elsewhere=settings.admin_port is not None)
        self._annotation.add_to(server)
        self._inference.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._checks, server)
        if settings.reflection:
            add_reflection(server, (SERVICE, inference.SERVICE, health.SERVICE))
        self._servers = [server]
        if settings.admin_port is not None:
            admin, port = self._listen(settings.admin_port, elsewhere=False)
            self._inference.add_to(admin)
            self._servers.append(admin)
            log.info("administrators' calls are served on %s:%d", settings.host, port)

    async def start(self) -> int:
        """Answer calls from now on; the callers' port."""
        for server in self._servers:
            await server.start()
        return self._port

    def leave(self) -> None:
        """Say that nothing is to be sent here any more; what comes all the same is answered until :meth:`drain`."""
        self._leaving.set()
        self._checks.leave()

    async def drain(self, seconds: float, forced: asyncio.Event, hand_back: Callable[[], None] = lambda: None) -> None:
        """Stop once all calls for work have ended, the time is up or a second signal has come, whichever is first.

        Other calls (a health check being watched, reflection) never end by themselves and are not waited for.

        Args:
            seconds: that calls have to finish.
            forced: set to stop at once.
            hand_back: called when the time is up; makes calls end soon, each item that is not finished with an error.
        """
        self.leave()
        idle = asyncio.gather(self._annotation.idle(), self._inference.idle())
        # Without end, and hastened below by None: gRPC crashes if the server is gone when a stop's own time is up.
        stop = asyncio.gather(*(server.stop(_NEVER) for server in self._servers))
        force = asyncio.create_task(forced.wait())
        waiting: set[asyncio.Future[Any]] = {stop, idle, force}
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if forced.is_set():
            log.warning("second signal: stopping at once")
        else:
            if not done:
                log.warning("the time to finish is up: what is unfinished is handed back")
                hand_back()
                await asyncio.wait(waiting - {stop}, timeout=_FLUSH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({stop}, timeout=min(seconds, _FLUSH_SECONDS))
        await asyncio.gather(*(server.stop(None) for server in self._servers))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)  # or asyncio would complain of those given up

    def _listen(self, port: int, *, elsewhere: bool) -> tuple[grpc.aio.Server, int]:
        """A server that listens, with the port it got.

        Args:
            port: 0 for any.
            elsewhere: whether another one serves administrators' calls.
        """
        server = grpc.aio.server(
            interceptors=[*self._interceptors, Access(self._authenticator, self._quotas, elsewhere=elsewhere)],
            options=[
                *channel_options(self._settings),
                ("grpc.max_receive_message_length", self._settings.message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", round(_KEEPALIVE_SECONDS * 1e3)),
                ("grpc.keepalive_timeout_ms", round(_KEEPALIVE_TIMEOUT * 1e3)),
                ("grpc.http2.ping_timeout_ms", round(_KEEPALIVE_TIMEOUT * 1e3)),  # the one that ends the connection
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
            ],
        )
        host = self._settings.host
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            _probe(host, port)
            if self._tls is not None:
                return server, server.add_secure_port(address, self._tls.credentials())
            return server, server.add_insecure_port(address)
        except (OSError, RuntimeError) as error:
            problem = (isinstance(error, OSError) and error.strerror) or error
            flag = "--port" if elsewhere or port != self._settings.admin_port else "--admin-port"
            way = f"stop what listens there, or choose another address with --host and {flag}"
            raise OSError(f"cannot listen on {address}: {problem}; {way}") from error


def _probe(host: str, port: int) -> None:
    """Find out what keeps an address from being listened on: gRPC does not say, and writes into the log itself.

    Raises:
        OSError: something does.
    """
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC: connections that linger do not matter
        probe.bind(address)
