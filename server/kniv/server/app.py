"""The server's life on one page: listen, load, serve, drain, stop; see ``docs/lifecycle.md``."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

from kniv.server import memory
from kniv.server.aside import idle
from kniv.server.errors import HungError, RepositoryError
from kniv.server.front import Front
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.models.modes import ControlMode
from kniv.server.models.poller import Poller, poll
from kniv.server.models.version import RunOptions
from kniv.server.repository.layout import models
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.owner import THREADS
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy
from kniv.server.scheduling.watchdog import RunBound
from kniv.server.settings import ServeSettings
from kniv.server.telemetry.telemetry import Telemetry, telemetry_of

log = logging.getLogger(__name__)

_MOST_DEVICES = 16
_LEAVE_SECONDS = 0.5  # for threads that are about to end anyway
# A thread whose run has ended waits for the interpreter no longer than this; its slot is idle meanwhile.
_SWITCH_SECONDS = 0.0005
_COLLECT_AFTER = 5000, 5, 5  # new objects, and younger collections: Python's are 700, 10 and 10


async def serve(settings: ServeSettings, ready: Callable[[int], None] = lambda port: None) -> bool:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once.

    Calls are heard from the start, and told to come back while their model is being loaded.

    Args:
        settings: how.
        ready: called with the port once the first model answers, or all that is there at the start has been tried.

    Returns:
        Whether no thread is at work any more. If one is, with a model that is still being loaded or a long text, the
        process is to end without it: neither the loop nor the interpreter can be closed before it has ended.

    Raises:
        ServeError: a setting cannot be followed, or there is nothing to serve.
        HungError: runs of a model do not return.
        OSError: an address cannot be listened on.
    """
    memory.bound(_cores())
    telemetry = telemetry_of(settings)
    try:
        await _serve(settings, telemetry, ready)
    finally:
        await telemetry.close()
    log.info("stopped")
    # Not to be given up: that would wait for the threads, with the loop at a stand.
    threads = [asyncio.create_task(asyncio.get_running_loop().shutdown_default_executor()), asyncio.create_task(idle())]
    _, at_work = await asyncio.wait(threads, timeout=_LEAVE_SECONDS)
    return not at_work


async def _serve(settings: ServeSettings, telemetry: Telemetry, ready: Callable[[int], None]) -> None:
    stopping, draining, forced = asyncio.Event(), asyncio.Event(), asyncio.Event()
    _on_signals(stopping, forced)
    slots = settings.parallel_runs or _cores()
    # Threads are made as they are needed, for the slots of all devices that models turn out to use.
    executor = ThreadPoolExecutor(THREADS * _MOST_DEVICES * slots, thread_name_prefix="run")
    engine = Engine([], executor, _policy(settings), _admission(settings), bound=_bound(settings))
    limits = BatchLimits(tokens=settings.batch_tokens, rows=settings.batch_rows)
    catalogue = Catalogue(settings.default_model)
    catalogue.starting = True
    telemetry.watch(engine, catalogue)
    control = ModelControl(
        settings.model_repository,
        catalogue,
        RunOptions(engine, slots, limits, telemetry.observer),
        settings.run_threads,
        settings.device,
        settings.model_control_mode,
    )
    engine.changes.listen(catalogue.changes.tell)
    if settings.exit_when_hung:
        engine.changes.listen(lambda: stopping.set() if engine.hung else None)
    front = Front(settings, catalogue, control, draining, live=lambda: not engine.hung, telemetry=telemetry)
    port = await front.start()
    log.info("listening on %s:%d", settings.host, port)
    patience = 0.0
    try:
        await _unless(stopping, _live(settings, control, lambda: ready(port)))
        patience = settings.drain_seconds
        front.leave()
        log.info("draining: in %g s calls have %g s to finish", settings.lame_duck_seconds, patience)
        await _unless(forced, asyncio.sleep(settings.lame_duck_seconds))
    finally:
        draining.set()
        await front.drain(patience, forced, engine.hand_back)
        # Calls that were cut short have given up their rows; their batches end before the threads do.
        ended = await _in_time(engine.close(), settings.run_grace_seconds) and not engine.hung
        executor.shutdown(wait=ended)
    if not ended:
        raise HungError("runs of a model hang; the process ends without them")


async def _live(settings: ServeSettings, control: ModelControl, ready: Callable[[], None]) -> None:
    """Load models, say when the first is there, and follow the repository; never ends by itself."""
    serving = asyncio.Event()

    def look() -> None:
        if not serving.is_set() and control.catalogue.any_ready():
            serving.set()
            ready()

    control.catalogue.changes.listen(look)
    # It looks before anything is loaded, so that no change falls in between.
    poller = await asyncio.to_thread(Poller, control.root) if control.mode is ControlMode.POLL else None
    await _load(settings, control)
    # What is here now mostly stays; each full collection would go through it, holding up all streams for tens of ms.
    gc.collect()
    gc.freeze()
    # Nearly all that a sentence needs goes with its last reference. Looking so rarely for what does not, mostly left by
    # streams that were cancelled, saves a fiftieth of the server's own work.
    gc.set_threshold(*_COLLECT_AFTER)
    sys.setswitchinterval(_SWITCH_SECONDS)
    if not serving.is_set():  # in the other modes models may come
        serving.set()
        ready()
    if poller is not None:
        await poll(control, poller, settings.repository_poll_seconds)
    await asyncio.Event().wait()


async def _load(settings: ServeSettings, control: ModelControl) -> None:
    """Load what the control mode loads at the start.

    Raises:
        RepositoryError: the repository cannot be read, or the mode is ``none`` and nothing in it can be loaded.
    """
    if control.mode is ControlMode.NONE and (name := settings.default_model):
        folders = await asyncio.to_thread(models, control.root)
        known = [folder.name for folder in folders if folder.versions or folder.problem]
        if known and name not in known:
            raise RepositoryError(control.root, f"holds no model '{name}', only {', '.join(known)}")
    explicit = control.mode is ControlMode.EXPLICIT
    names = settings.load_model if explicit and "*" not in settings.load_model else None
    failures = await control.start(names)
    if control.mode is not ControlMode.NONE:
        return  # what is not there yet may come
    if not control.catalogue.any_ready():
        reasons = "; ".join(str(error) for error in failures)
        expected = "it holds no model: expected <model>/<version>/cascade-int8.onnx or cascade.onnx"
        raise RepositoryError(control.root, f"no model could be loaded: {reasons or expected}")


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work until it is done or the event comes."""
    doing, waiting = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if doing.done():
        doing.result()
    else:
        doing.cancel()
        await asyncio.wait({doing})


async def _in_time(work: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Do the work; whether it was done in time."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True


def _policy(settings: ServeSettings) -> Policy:
    return Policy(settings.ageing_seconds, settings.reserved_share, settings.wait_bound_ms / 1e3)


def _bound(settings: ServeSettings) -> RunBound:
    return RunBound(settings.run_seconds or inf, grace=settings.run_grace_seconds)


def _admission(settings: ServeSettings) -> Admission:
    return Admission(settings.queue_rows, settings.queue_bytes, settings.client_rows, settings.client_bytes)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_signals(stopping: asyncio.Event, forced: asyncio.Event) -> None:
    """Let the first signal stop the server and the second hasten it; a stop for a hung run is no signal."""
    coming = iter((stopping, forced))

    def heed() -> None:
        next(coming, forced).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heed)
