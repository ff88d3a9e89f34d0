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
from kniv.server.services.annotation import SERVICE, AnnotationService, ServiceLimits
from kniv.server.services.reflection import add_reflection
from kniv.server.services.stream import StreamLimits
from kniv.server.settings import ServeSettings

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.5  # for the last statuses to leave
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
    parallel = settings.parallel_runs or _cores()
    with ThreadPoolExecutor(parallel, thread_name_prefix="run") as executor:
        catalogue = await _load(settings, parallel, executor, draining)
        if catalogue is None:
            log.info("stopped while loading")
            return
        server, service, checks = _server(settings, catalogue, draining)
        port = _listen(server, settings)
        await server.start()
        for name in ("", SERVICE):
            await checks.set(name, _SERVING)
        log.info("listening on %s:%d", settings.host, port)
        ready(port)
        await draining.wait()
        log.info("draining: calls have %g s to finish", settings.drain_seconds)
        await checks.enter_graceful_shutdown()
        await _drain(server, service, settings.drain_seconds, forced)
    log.info("stopped")


async def _load(
    settings: ServeSettings, parallel: int, executor: ThreadPoolExecutor, draining: asyncio.Event
) -> Catalogue | None:
    """The models, loaded off the loop; None if a signal came first."""
    options, model = _run_options(settings, parallel), settings.default_model
    load = asyncio.create_task(asyncio.to_thread(Catalogue.load, settings.model_repository, model, options, executor))
    stop = asyncio.create_task(draining.wait())
    await asyncio.wait({load, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    return load.result() if load.done() else None


async def _drain(server: grpc.aio.Server, service: AnnotationService, seconds: float, forced: asyncio.Event) -> None:
    """Stop once all annotation calls have ended, the time is up or a second signal has come, whichever is first.

    Other calls (a health check being watched, reflection) never end by themselves and are not waited for.
    """
    stop = asyncio.create_task(server.stop(seconds))
    waiting = {stop, asyncio.create_task(service.idle()), asyncio.create_task(forced.wait())}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if forced.is_set():
        log.warning("second signal: stopping at once")
    await server.stop(None if forced.is_set() else min(seconds, _FLUSH_SECONDS))
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
) -> tuple[grpc.aio.Server, AnnotationService, health.aio.HealthServicer]:
    """A server with the annotation, health and reflection services."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
        ]
    )
    limits = ServiceLimits(
        inputs=settings.call_inputs,
        characters=settings.call_characters,
        stream=StreamLimits(sentences=settings.stream_sentences),
    )
    service = AnnotationService(catalogue, limits, draining)
    service.add_to(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    add_reflection(server, (SERVICE, health.SERVICE_NAME))
    return server, service, checks


def _listen(server: grpc.aio.Server, settings: ServeSettings) -> int:
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        return server.add_insecure_port(f"{address}:{settings.port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}:{settings.port}: {error}") from error
