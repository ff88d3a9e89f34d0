"""Threads of which one at a time does something, as a test says: every interleaving can be had again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

PATIENCE = 30
_here = threading.local()


class _GoneError(BaseException):
    """The play is over."""


def _always() -> bool:
    return True


class Actor:
    """A thread that goes on, when it is told to, as far as its next :func:`pause`.

    Attributes:
        ready: whether it can go on.
        over: whether it has come to its end.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self.ready: Callable[[], bool] = _always
        self.over = False
        self._error: BaseException | None = None
        self._gone = False
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Go on.

        Raises:
            AssertionError: it waits for another one, who cannot go on meanwhile.
        """
        self._go.release()
        assert self._back.acquire(timeout=PATIENCE), "a deadlock"
        if self._error is not None:
            raise self._error

    def pause(self, ready: Callable[[], bool]) -> None:
        """Let others go on, until it is told to go on itself; in its own thread."""
        self.ready = ready
        self._back.release()
        self._wait()

    def leave(self) -> None:
        """End it wherever it is."""
        self._gone = True
        while not self.over:
            self._go.release()
            assert self._back.acquire(timeout=PATIENCE), "an actor that does not leave"
        self._thread.join(PATIENCE)

    def _wait(self) -> None:
        self._go.acquire()
        if self._gone:
            raise _GoneError

    def _run(self, work: Callable[[], object]) -> None:
        _here.actor = self
        try:
            self._wait()
            work()
        except _GoneError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.over = True
            self._back.release()


def pause(ready: Callable[[], bool] = _always) -> None:
    """Let others go on here, if this is an actor's thread, until it is its turn and it is ready."""
    actor = getattr(_here, "actor", None)
    if actor is not None:
        actor.pause(ready)


class Lock(AbstractContextManager[None]):
    """Others may go on before it is taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self) -> None:
        pause()
        assert self._lock.acquire(blocking=False), "paused with the lock held"

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Loop(asyncio.SelectorEventLoop):
    """An event loop in a time that is told to it; others may go on before it is called from their threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock_of_the_play = clock

    def time(self) -> float:
        return self._clock_of_the_play()

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        pause()
        return super().call_soon_threadsafe(callback, *args, context=context)

    def timer(self) -> float | None:
        """When it has something to do next that it cannot do now."""
        return min((handle.when() for handle in self._scheduled if not handle.cancelled()), default=None)  # type: ignore[attr-defined]

    def busy(self) -> bool:
        """Whether there is something that it can do now."""
        timer = self.timer()
        return bool(self._ready) or (timer is not None and timer <= self.time())  # type: ignore[attr-defined]

    def serve(self) -> None:
        """Do what there is to do, again and again; an actor's work."""
        while True:
            pause(self.busy)
            self.call_soon(self.stop)
            self.run_forever()


class Hands(Executor):
    """Threads that begin with what is submitted in any order.

    Args:
        most: so many at once.

    Attributes:
        waiting: work that nobody has begun with.
        refuse: pieces of work to refuse, as an executor does that cannot start a thread.
        refusal: what they are refused with.
        anyway: whether they are then done nevertheless.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: list[Actor] = []
        self.waiting: list[Callable[[], object]] = []
        self.refuse, self.anyway = 0, False
        self.refusal: type[Exception] = RuntimeError

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        pause()
        future: Future[Any] = Future()

        def do() -> None:
            try:
                future.set_result(work(*arguments, **named))
            except Exception as error:
                future.set_exception(error)
                raise

        if not self.refuse or self.anyway:
            self.waiting.append(do)
        if self.refuse:
            self.refuse -= 1
            raise self.refusal("cannot start new thread")
        return future

    def able(self) -> list[Callable[[], object]]:
        """What could be done next: threads that go on, and one for each piece of work that waits."""
        self._begun = [actor for actor in self._begun if not actor.over]
        steps: list[Callable[[], object]] = [actor.step for actor in self._begun if actor.ready()]
        if len(self._begun) < self._most:
            steps += [lambda work=work: self._begin(work) for work in self.waiting]  # type: ignore[misc]
        return steps

    def leave(self) -> None:
        """End what is under way."""
        for actor in self._begun:
            actor.leave()

    def _begin(self, work: Callable[[], object]) -> None:
        self.waiting.remove(work)
        actor = Actor(work)
        self._begun.append(actor)
        actor.step()
