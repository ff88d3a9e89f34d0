"""What is told about one item on its way: where lower rooms say what they did, and telemetry listens.

These classes listen to nothing, and cost next to nothing; :mod:`kniv.server.telemetry` has those that do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum


class Kind(StrEnum):
    """What an item is."""

    TURN = "turn"
    DOCUMENT = "document"
    TEXT = "text"
    RAW = "raw"


class Outcome(StrEnum):
    """How an item ended."""

    COMPLETE = "complete"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    ABANDONED = "abandoned"


class Trail:
    """Told what happens to one item. Times are of ``time.monotonic``, durations are seconds."""

    __slots__ = ()

    def segmented(self, began: float, ended: float, text: str, sentences: int) -> None:
        """A piece of its text has been cut into so many sentences."""

    def encoded(self, began: float, ended: float) -> None:
        """A sentence has been made into rows."""

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        """It has ended; a second time says nothing."""


class Trails:
    """Makes the trails of one call's items."""

    __slots__ = ()

    def begin(self, kind: Kind, model: str, version: int, variant: str, name: str = "") -> Trail:
        """The trail of an item that has come.

        Args:
            kind: what it is.
            model, version, variant: what annotates it.
            name: the caller's name for it.
        """
        return NO_TRAIL


NO_TRAIL, _NO_TRAILS = Trail(), Trails()
CALL: ContextVar[Trails] = ContextVar("call", default=_NO_TRAILS)


def trails() -> Trails:
    """What makes the trails of the call that is being served."""
    return CALL.get()


@contextmanager
def following(trail: Trail) -> Iterator[Trail]:
    """Say at the end of some work how the item has ended that it is for."""
    try:
        yield trail
    except asyncio.CancelledError:
        trail.ended(Outcome.ABANDONED)
        raise
    except Exception as error:
        trail.ended(Outcome.FAILED, error)
        raise
    trail.ended(Outcome.COMPLETE)
