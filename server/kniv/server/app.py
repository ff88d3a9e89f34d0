"""The server's life on one page: load, listen, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kniv.server.errors import RepositoryError
from kniv.server.front import Front
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.models.modes import ControlMode
from kniv.server.models.poller import Poller, poll
from kniv.server.models.version import RunOptions
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy
from kniv.server.settings import ServeSettings

log = logging.getLogger(__name__)

_MOST_DEVICES = 16


async def serve(settings: ServeSettings, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once.

    Args:
        settings: how.
        ready: called with the port once calls are answered.

    Raises:
        ServeError: a setting cannot be followed, or there is nothing to serve.
        OSError: an address cannot be listened on.
    """
    draining, forced = asyncio.Event(), asyncio.Event()
    _on_signals(draining, forced)
    slots = settings.parallel_runs or _cores()
    # Threads are made as they are needed: as many as the slots of all devices that models turn out to use.
    with ThreadPoolExecutor(_MOST_DEVICES * slots, thread_name_prefix="run") as executor:
        engine = Engine([], executor, _policy(settings), _admission(settings))
        limits = BatchLimits(tokens=settings.batch_tokens, rows=settings.batch_rows)
        catalogue = Catalogue(settings.default_model)
        control = ModelControl(
            settings.model_repository,
            catalogue,
            RunOptions(engine, slots, limits),
            settings.run_threads,
            settings.device,
            settings.model_control_mode,
        )
        poller = Poller(control.root) if control.mode is ControlMode.POLL else None
        if not await _unless(draining, _load(settings, control)):
            log.info("stopped while loading")
            return
        polling = asyncio.create_task(poll(control, poller, settings.repository_poll_seconds)) if poller else None
        try:
            await _serve(Front(settings, catalogue, control, draining), settings, forced, ready)
        finally:
            if polling is not None:
                polling.cancel()
            # Calls that were cut short have given up their rows; their batches end before the threads do.
            await engine.close()
    log.info("stopped")


async def _serve(front: Front, settings: ServeSettings, forced: asyncio.Event, ready: Callable[[int], None]) -> None:
    """Answer calls until it is time to stop, then drain."""
    port = await front.start()
    log.info("listening on %s:%d", settings.host, port)
    ready(port)
    await front.draining.wait()
    log.info("draining: calls have %g s to finish", settings.drain_seconds)
    await front.drain(settings.drain_seconds, forced)


async def _load(settings: ServeSettings, control: ModelControl) -> None:
    """Load what the control mode loads at the start.

    Raises:
        RepositoryError: the repository cannot be read, or the mode is ``none`` and nothing in it can be loaded.
    """
    explicit = control.mode is ControlMode.EXPLICIT
    names = settings.load_model if explicit and "*" not in settings.load_model else None
    failures = await control.start(names)
    if control.mode is not ControlMode.NONE:
        return  # what is not there yet may come
    if not any(entry.ready for known in control.catalogue.models.values() for entry in known.values()):
        reasons = "; ".join(str(error) for error in failures)
        expected = "it holds no model: expected <model>/<version>/cascade-int8.onnx or cascade.onnx"
        raise RepositoryError(control.root, f"no model could be loaded: {reasons or expected}")
    if (name := settings.default_model) and name not in control.catalogue.models:
        known = ", ".join(control.catalogue.names())
        raise RepositoryError(control.root, f"holds no model '{name}', only {known}")


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless the event comes first; whether it was done."""
    doing, waiting = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    return False


def _policy(settings: ServeSettings) -> Policy:
    return Policy(settings.ageing_seconds, settings.reserved_share, settings.wait_bound_ms / 1e3)


def _admission(settings: ServeSettings) -> Admission:
    return Admission(settings.queue_rows, settings.queue_bytes, settings.client_rows, settings.client_bytes)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_signals(draining: asyncio.Event, forced: asyncio.Event) -> None:
    def heed() -> None:
        (forced if draining.is_set() else draining).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heed)
