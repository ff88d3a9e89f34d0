"""Whether the callers of open streams may still do what these are for, after the files that say so have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from kniv.server.errors import ServeError
from kniv.server.security.authenticate import Authenticator

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Standing:
    """A caller's right to go on with one stream.

    Args:
        expires: when what the caller has shown ends, in Unix time.
        revocable: whether it may be lost before.
    """

    __slots__ = ("_told", "expires", "revocable")

    def __init__(self, expires: float = inf, *, revocable: bool = False) -> None:
        self.expires, self.revocable = expires, revocable
        self._told: Callable[[ServeError], None] | None = None

    def tell(self, told: Callable[[ServeError], None] | None) -> None:
        """Whom to tell if it is lost, with the reason; None for nobody any more."""
        self._told = told

    def lose(self, error: ServeError) -> None:
        """The caller may not go on."""
        if self._told is not None:
            self._told(error)


class Vigil:
    """Judges the callers of open streams anew when a file with callers or keys says something else than before.

    What it says counts once it has been found twice in a row: a file that is written over is empty for a moment, and
    streams that were cut off for that would be lost work. For one event loop.

    Args:
        authenticator: knows the files.
        seconds: between two looks, for as long as there are streams.
    """

    def __init__(self, authenticator: Authenticator, seconds: float = LOOK_SECONDS) -> None:
        self._authenticator, self._seconds = authenticator, seconds
        self._open: dict[Standing, Callable[[], float]] = {}
        self._expiry = inf  # the first that there is by what the files say now
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def over(self, standing: Standing, judge: Callable[[], float]) -> Iterator[None]:
        """Watch over a stream.

        Args:
            standing: of its caller.
            judge: until when, in Unix time, the caller may do this as things are now, with what it has shown; raises
                ServeError if not at all.
        """
        if not standing.revocable:
            yield
            return
        self._open[standing] = judge
        if self._task is None:
            self._task = asyncio.create_task(self._looking())
        try:
            yield
        finally:
            del self._open[standing]
            if not self._open:
                self._task.cancel()
                self._task = None

    async def _looking(self) -> None:
        # All are judged once at the start, as the files may have changed since the first was let in.
        judged: tuple[object, ...] | None = None
        before: tuple[object, ...] | None = None
        while True:
            await asyncio.sleep(self._seconds)
            try:
                now = self._authenticator.known()
                if now == before and (now != judged or self._authenticator.clock() >= self._expiry):
                    judged = now
                    self._judge()
                before = now
            except Exception:  # of one stream, or in one look; the others are watched over still
                log.exception("the callers of open streams could not be judged anew")

    def _judge(self) -> None:
        self._expiry = inf
        for standing, judge in list(self._open.items()):
            try:
                self._expiry = min(self._expiry, judge())
            except ServeError as error:
                standing.lose(error)
