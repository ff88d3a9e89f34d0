"""The services in this process, behind no network: what happens is decided by the messages alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import grpc
import numpy as np

from kniv.server.models.catalogue import Catalogue, State, VersionEntry
from kniv.server.models.control import ModelControl
from kniv.server.models.modes import ControlMode
from kniv.server.models.opening import OpenedVariant, OpenedVersion, open_version
from kniv.server.models.version import LoadedVersion, RunOptions
from kniv.server.repository.config import load_config
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import find
from kniv.server.runtime.session import Session
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy
from kniv.server.scheduling.row import Floats, Ints
from kniv.server.services.annotation import AnnotationService, ServiceLimits
from kniv.server.services.inference import InferenceService
from kniv.server.services.stream import StreamLimits

T = TypeVar("T")

MODEL = "kniv-mini"
_REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
_PATIENCE = 60.0

# Small, so that a few messages reach the bounds.
LIMITS = StreamLimits(sentences=3, messages=4, bytes=2000, open_documents=2)


class EndedError(Exception):
    """The service has ended a call with a status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code, self.message = code, message


class Quick:
    """A session that answers at once, with logits that are made of the subwords and mean nothing."""

    def __init__(self, session: Session, labels: Labels) -> None:
        self._session, self._labels = session, labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def switch(self) -> Any:
        return SimpleNamespace(terminate=False)

    def run(self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...], switch: Any) -> dict[str, Floats]:
        rows, subwords = ids.shape
        weight = self._session.relation_weight
        assert weight is not None
        shapes = {
            "pos_logits": (rows, subwords, len(self._labels.pos)),
            "ner_logits": (rows, subwords, len(self._labels.ner)),
            "arc_scores": (rows, subwords, subwords),
            "label_scores": (rows, subwords, subwords, len(self._labels.deprel)),
            "relation_scores": (rows, subwords, len(self._labels.deprel)),
            "relation_dependent": (rows, subwords, weight.shape[-1]),
            "relation_head": (rows, subwords, weight.shape[-1]),
            "srl_logits": (rows, subwords, len(self._labels.srl)),
            "cls_logits": (rows, len(self._labels.cls)),
        }
        made = np.random.default_rng(int(ids.sum()) & 0xFFFF)
        return {name: made.standard_normal(shapes[name], dtype=np.float32) for name in outputs}


class Hands(Executor):
    """Runs work at once in the caller's thread or, while told to hold it, when told to release it."""

    def __init__(self) -> None:
        self.holding = False
        self._held: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        future: Future[T] = Future()
        self._held.append((future, lambda: work(*arguments, **named)))
        if not self.holding:
            self.release()
        return future

    def release(self) -> None:
        """Do what is held, and hold nothing until told again."""
        self.holding = False
        while self._held:
            future, work = self._held.pop(0)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except Exception as error:
                    future.set_exception(error)


class Context:
    """A call whose ends are in this process.

    Attributes:
        written: what the service has put on the wire.
        reading: whether the client takes what is written.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self._coming: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, content: bytes) -> None:
        """The client sends a message."""
        self._coming.put_nowait(content)

    def half_close(self) -> None:
        """It will send no more."""
        self._coming.put_nowait(grpc.aio.EOF)

    async def read(self) -> Any:
        return await self._coming.get()

    async def write(self, content: bytes) -> None:
        await self.reading.wait()
        self.written.append(content)

    async def abort(self, code: grpc.StatusCode, message: str = "", details: Any = ()) -> None:
        raise EndedError(code, message)

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


class Host:
    """Both services on an event loop that runs only while it is asked for something."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.hands = Hands()
        self.run(self._start())

    async def _start(self) -> None:
        opened = _opened()
        variants = {name: _quick(variant, opened.labels) for name, variant in opened.variants.items()}
        self.engine = Engine([], self.hands, Policy(), Admission())
        options = RunOptions(self.engine, 2, BatchLimits())
        self.loaded = LoadedVersion(replace(opened, variants=variants), options)
        catalogue = Catalogue()
        catalogue.models[MODEL] = {1: VersionEntry(State.READY, loaded=self.loaded)}
        control = ModelControl(_REPOSITORY, catalogue, options, mode=ControlMode.EXPLICIT)
        never = asyncio.Event()
        limits = ServiceLimits(inputs=8, characters=20_000, stream=LIMITS)
        self.annotation = AnnotationService(catalogue, limits, never)
        self.inference = InferenceService(catalogue, control, never)
        self.methods: dict[str, Any] = {}
        for service in (self.annotation, self.inference):
            service.add_to(_Registrar(self.methods))  # type: ignore[arg-type]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop.

        Raises:
            TimeoutError: it does not come to an end.
        """

        async def bounded() -> T:
            async with asyncio.timeout(_PATIENCE):
                return await work

        return self._runner.run(bounded())

    def close(self) -> None:
        """Run nothing any more."""
        self._runner.close()

    async def settled(self) -> None:
        """See that no call has left anything behind.

        Raises:
            AssertionError: rows, batches, a lease or a task are still there.
        """
        for _ in range(100):
            await asyncio.sleep(0)
        assert (self.engine.items, self.engine.bytes, self.engine.running) == (0, 0, 0), "rows are left behind"
        async with asyncio.timeout(5):
            await self.loaded.unused()
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own and not task.done()]
        assert not left, f"tasks are left behind: {left}"


class _Registrar:
    """Takes handlers as a gRPC server does, and gives them by the method's name."""

    def __init__(self, methods: dict[str, Any]) -> None:
        self._methods = methods

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        for one in handlers:
            for path, handler in one._method_handlers.items():
                self._methods[path.rpartition("/")[2]] = handler


def _quick(variant: OpenedVariant, labels: Labels) -> OpenedVariant:
    sessions: dict[str, Any] = {device: Quick(session, labels) for device, session in variant.sessions.items()}
    return OpenedVariant(sessions, variant.instances)


def _opened() -> OpenedVersion:
    """The embedded model as it is on disk."""
    model = find(_REPOSITORY, MODEL)
    return open_version(model.versions[0], load_config(model.path), threads=1)


@cache
def host() -> Host:
    """The one host of this process."""
    return Host()
