"""When a stream ends before its client ends it: the server drains, or it is old, idle, or its caller let in no more."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Self

from kniv.server.errors import DeniedError, ServeError, StoppingError, StreamOverError
from kniv.server.security.standing import Standing

_JITTER = 0.1
_HAND_BACK_SECONDS = 1.0  # for the last messages of a stream whose caller may not go on


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long streams last.

    Attributes:
        age: seconds; each stream's own is up to a tenth more or less, so that those opened together do not
            come back together.
        idle: seconds without a message either way.
        grace: seconds for what was received to be answered and read, once the stream is over.
    """

    age: float = inf
    idle: float = inf
    grace: float = inf


class Ending:
    """Tells a stream when to read no more, by ``stop``; to be entered for as long as the stream is served.

    One that is too old or idle, and has not ended when the grace is over, is ended with StreamOverError. One whose
    caller has lost its standing is ended with the reason of that, and has no grace.

    Args:
        draining: set when the server is to stop.
        lifetime: how long streams last.
        standing: the caller's; None for one who has proved nothing that could end.
        clock: seconds that never go back.
        jitter: a number in 0 to 1.

    Attributes:
        stop: set when nothing more is to be read.
        hand_back: called, with the reason, when the caller may not go on; makes what is not finished end with it.
    """

    def __init__(
        self,
        draining: asyncio.Event,
        lifetime: Lifetime,
        standing: Standing | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._draining, self._lifetime, self._clock = draining, lifetime, clock
        self._standing = standing or Standing()
        self.hand_back: Callable[[ServeError], None] = lambda error: None
        now = clock()
        self._old = now + lifetime.age * (1 + _JITTER * (2 * jitter() - 1))
        self._expired = now + max(0.0, self._standing.expires - time.time())
        self._touched = now
        self._error: ServeError = StoppingError("the server is stopping; send what has no answer yet to another")
        self._watch: asyncio.Task[None] | None = None
        self._limit = asyncio.Timeout(None)
        # Where nothing but the server's end ends the stream, there is nothing to watch.
        self._bounded = self._standing.revocable or self.due()[0] < inf
        self.stop = asyncio.Event() if self._bounded else draining

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        if self._bounded:
            self._watch = asyncio.create_task(self._watching())
            self._standing.tell(self._lose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._standing.tell(None)
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self._error from None

    @property
    def error(self) -> ServeError:
        """Why the stream was to end."""
        return self._error

    def touch(self) -> None:
        """A message has come or gone."""
        self._touched = self._clock()

    def due(self) -> tuple[float, StreamOverError]:
        """Seconds until the stream is over, as things are now, and why it will be."""
        now = self._clock()
        ends = (
            (self._old - now, StreamOverError("STREAM_AGE", "the stream is as old as streams may get")),
            (self._touched + self._lifetime.idle - now, StreamOverError("STREAM_IDLE", "the stream was idle")),
            (self._expired - now, StreamOverError("CREDENTIALS_EXPIRED", "what the caller has shown has expired")),
        )
        return min(ends, key=lambda end: end[0])

    def _lose(self, error: ServeError) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if isinstance(error, DeniedError) and error.reason == "CREDENTIALS_EXPIRED":
            self._expired = self._clock()  # as it would have ended in time
            self._watch = asyncio.create_task(self._watching())
            return
        self._error = error
        if not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + _HAND_BACK_SECONDS)
        self.stop.set()
        self.hand_back(error)

    async def _watching(self) -> None:
        while not self._draining.is_set():
            seconds, error = self.due()
            if seconds <= 0:
                self._error = error
                # A client that does not read would otherwise hold up the end for ever.
                self._limit.reschedule(asyncio.get_running_loop().time() + self._lifetime.grace)
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds if seconds < inf else None):
                    await self._draining.wait()
        self.stop.set()
