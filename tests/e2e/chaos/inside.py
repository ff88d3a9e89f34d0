"""The real server on an event loop of its own in a thread, so that a test can look inside."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.chaos.gate import Gate, GatedEngine

from kniv.server.front import Front
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.models.version import Lease, RunOptions
from kniv.server.pipeline.words import words
from kniv.server.scheduling.owner import THREADS
from kniv.server.scheduling.pending import Pending
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy
from kniv.server.scheduling.row import Ints
from kniv.server.services.inference.infer import Work
from kniv.server.services.inference.stream import InferenceStream
from kniv.server.services.item import Document, Item
from kniv.server.services.rpc import Wire
from kniv.server.services.stream import AnnotationStream
from kniv.server.settings import ServeSettings

T = TypeVar("T")

PATIENCE = 60.0  # seconds until what should become true is given up
_PAUSE = 0.005
_ATTEMPTS = 20
_OURS = {AnnotationStream, Document, InferenceStream, Item, Lease, Pending, Wire, Work}
_GRPCS = {"RPCState", "_ServicerContext"}  # of each call


@dataclass(frozen=True)
class Holdings:
    """What a server holds for its callers.

    Attributes:
        rows, size: rows that wait or run, and their bytes.
        batches: batches that run.
        tasks: tasks of its event loop, by the function that they carry out.
    """

    rows: int
    size: int
    batches: int
    tasks: tuple[tuple[str, int], ...]


class Complaints(logging.Handler):
    """Errors that the process has logged; asyncio's, of exceptions that nobody looked at, are among them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []
        self._format = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self._format.format(record))


class Inside:
    """A running server; all its methods are called from other threads.

    Args:
        repository: the models.
        settings: how to serve them.
    """

    def __init__(self, repository: Path, **settings: Any) -> None:
        self._settings = ServeSettings(model_repository=repository, port=0, **settings)
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="server")
        self.engine: GatedEngine
        self.target = ""
        self.complaints = Complaints()

    @property
    def gate(self) -> Gate:
        """Before the models."""
        return self.engine.gate

    @contextmanager
    def running(self) -> Iterator[Inside]:
        """Serve; at the end nothing may be held."""
        logging.getLogger().addHandler(self.complaints)
        self._thread.start()
        try:
            self._started.result(PATIENCE)
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE)
            logging.getLogger().removeHandler(self.complaints)
            gc.unfreeze()
        assert not self._thread.is_alive(), "the server did not stop"

    def rest(self) -> None:
        """What is held once no call is under way is what is held at rest."""
        self.until(lambda: not (self.engine.items or self.tasks("_schedule_rpc_coro")), "the end of all calls")
        self._rest, self._objects = self.holdings(), kept()
        gc.freeze()  # what there is by now need not be looked through time and again

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait on the server's loop until something is so there.

        Raises:
            AssertionError: it has not become so in time.
        """

        async def wait() -> None:
            async with asyncio.timeout(PATIENCE):
                while not condition():  # noqa: ASYNC110 - what is looked at tells nobody of its changes
                    await asyncio.sleep(_PAUSE)

        try:
            self.call(wait())
        except TimeoutError as error:
            raise AssertionError(f"never came: {what}; there is {self.holdings()}") from error

    def subwords(self, sentence: str) -> Ints:
        """Subwords of a sentence's one row, as its model is given them [S]."""
        (entries,) = self._catalogue.models.values()
        (entry,) = entries.values()
        assert entry.loaded is not None
        found = [sentence[word.start : word.end] for word in words(sentence)]
        (window,) = entry.loaded.opened.encoder.windows(found)
        return window.ids

    def holdings(self) -> Holdings:
        """What is held now."""

        async def look() -> Holdings:
            return self._holdings()

        return self.call(look())

    def tasks(self, name: str) -> int:
        """Tasks that carry out a function, by its qualified name; to be called on the loop."""
        return dict(self._holdings().tasks).get(name, 0)

    def settle(self) -> None:
        """Wait until the server is as it was at rest: every permit is back, and nothing is remembered of the calls.

        Raises:
            AssertionError: something is still held, or an error was logged.
        """
        versions = [entry.loaded for entries in self._catalogue.models.values() for entry in entries.values()]
        for loaded in versions:
            assert loaded is not None
            try:
                self.call(asyncio.wait_for(loaded.unused(), PATIENCE))
            except TimeoutError as error:
                raise AssertionError(f"a lease of version {loaded.number} is still held") from error
        for _ in range(_ATTEMPTS):
            self._check()
            self.until(lambda: self._holdings() == self._rest, f"rest, which is {self._rest}")
            left = kept() - self._objects
            if not left:
                break
        assert not left, f"still in memory: {left}"
        assert not self.complaints.said, "\n".join(self.complaints.said)

    def _check(self) -> None:
        """One more call, because gRPC's server remembers the last one that it took, with all that it raised."""
        with grpc.insecure_channel(self.target) as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * PATIENCE)

    def _holdings(self) -> Holdings:
        own = asyncio.current_task()
        names = Counter(_name(task) for task in asyncio.all_tasks() if task is not own)
        engine = self.engine
        return Holdings(engine.items, engine.bytes, engine.running, tuple(sorted(names.items())))

    async def _serve(self) -> None:
        try:
            await self._start()
        except BaseException as error:
            self._started.set_exception(error)
            raise
        self._started.set_result(None)
        await self._stop.wait()
        await self._front.drain(0.0, asyncio.Event())
        self._executor.shutdown()

    async def _start(self) -> None:
        given = self._settings
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._executor = ThreadPoolExecutor(THREADS * given.parallel_runs)
        admission = Admission(given.queue_rows, given.queue_bytes, given.client_rows, given.client_bytes)
        self.engine = GatedEngine([], self._executor, Policy(), admission)
        self._catalogue = Catalogue()
        options = RunOptions(self.engine, given.parallel_runs, BatchLimits(given.batch_tokens, given.batch_rows))
        control = ModelControl(given.model_repository, self._catalogue, options)
        assert not await control.start()
        self._front = Front(given, self._catalogue, control, self._stop)
        self.target = f"{given.host}:{await self._front.start()}"


def kept() -> Counter[str]:
    """Objects in memory that belong to calls, by their class."""
    gc.collect()
    kinds = (type(one) for one in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if kind in _OURS or kind.__name__ in _GRPCS)


def _name(task: asyncio.Task[Any]) -> str:
    work = task.get_coro()
    return str(getattr(work, "__qualname__", work))
