"""The server's life on one page: load, listen, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kniv.server.pipeline.catalogue import Catalogue, RunOptions
from kniv.server.scheduling.forming import BatchLimits
from kniv.server.services.annotation import AnnotationService, ServiceLimits
from kniv.server.services.reflection import add_reflection
from kniv.server.services.stream import StreamLimits
from kniv.server.settings import ServeSettings
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

log = logging.getLogger(__name__)

_SERVICE = calls.DESCRIPTOR.services_by_name["AnnotationService"].full_name
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def serve(settings: ServeSettings, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once.

    Args:
        settings: how.
        ready: called with the port once calls are answered.

    Raises:
        RepositoryError: there is nothing to serve.
        OSError: the address cannot be listened on.
    """
    draining, forced = asyncio.Event(), asyncio.Event()
    _on_signals(draining, forced)
    parallel = settings.parallel_runs or os.cpu_count() or 1
    with ThreadPoolExecutor(parallel, thread_name_prefix="run") as executor:
        # Loading runs off the loop, so that a signal during a long load is heeded.
        catalogue = await asyncio.to_thread(
            Catalogue.load,
            settings.model_repository,
            settings.default_model,
            _run_options(settings, parallel),
            executor,
        )
        server, checks = _server(settings, catalogue, draining)
        port = _listen(server, settings)
        await server.start()
        for name in ("", _SERVICE):
            await checks.set(name, _SERVING)
        log.info("listening on %s:%d", settings.host, port)
        ready(port)
        await draining.wait()
        log.info("draining: calls have %g s to finish", settings.drain_seconds)
        await checks.enter_graceful_shutdown()
        stop = asyncio.create_task(server.stop(settings.drain_seconds))
        force = asyncio.create_task(forced.wait())
        await asyncio.wait({stop, force}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            log.warning("second signal: stopping at once")
            await server.stop(None)
        force.cancel()
        await stop
    log.info("stopped")


def _on_signals(draining: asyncio.Event, forced: asyncio.Event) -> None:
    def heed() -> None:
        (forced if draining.is_set() else draining).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heed)


def _run_options(settings: ServeSettings, parallel: int) -> RunOptions:
    limits = BatchLimits(tokens=settings.batch_tokens, rows=settings.batch_rows)
    return RunOptions(settings.device, parallel, settings.run_threads, limits)


def _server(
    settings: ServeSettings, catalogue: Catalogue, draining: asyncio.Event
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A server with the annotation, health and reflection services."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
        ]
    )
    limits = ServiceLimits(inputs=settings.call_inputs, stream=StreamLimits(sentences=settings.stream_sentences))
    stubs.add_AnnotationServiceServicer_to_server(AnnotationService(catalogue, limits, draining), server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    add_reflection(server, (_SERVICE, health.SERVICE_NAME))
    return server, checks


def _listen(server: grpc.aio.Server, settings: ServeSettings) -> int:
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        return server.add_insecure_port(f"{address}:{settings.port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}:{settings.port}: {error}") from error
