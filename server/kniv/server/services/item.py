"""One turn or document of a stream, from its first message to its end."""

from __future__ import annotations

import asyncio
import codecs
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from kniv.server.errors import InvalidRequestError, ServeError
from kniv.server.models.version import Lease
from kniv.server.pipeline.segment import Segmenter
from kniv.server.pipeline.types import Timings
from kniv.server.scheduling.trail import NO_TRAIL, Outcome, Trail
from kniv.server.services.offsets import Ruler
from kniv.v1 import annotation_service_pb2 as calls

_OFFSET_LIMIT = (1 << 31) - 1
_OUTCOMES = {
    calls.OUTCOME_COMPLETE: Outcome.COMPLETE,
    calls.OUTCOME_CANCELLED: Outcome.CANCELLED,
    calls.OUTCOME_SUPERSEDED: Outcome.SUPERSEDED,
}


@dataclass(slots=True, eq=False)
class Item:
    """A turn or document on its way.

    Attributes:
        reference: its name on the wire.
        lease: the version that annotates it, held until it ends.
        outcome: set once the item ends early (cancelled, superseded).
        error: set once the item failed.
        whole: all its sentences have been begun.
        pending: sentences begun and not yet out.
        sent: number of sentences that are out.
        queued, computed: seconds of theirs, summed up.
        work: annotations that an early end cancels.
        trail: told what happens to it.
    """

    reference: calls.ItemReference
    speaker: str
    ruler: Ruler
    lease: Lease
    arrived: float = field(default_factory=perf_counter)
    outcome: calls.Outcome = calls.OUTCOME_COMPLETE
    error: ServeError | None = None
    whole: bool = False
    ended: bool = False
    begun: int = 0
    pending: int = 0
    sent: int = 0
    queued: float = 0.0
    computed: float = 0.0
    work: set[asyncio.Future[Any]] = field(default_factory=set)
    trail: Trail = NO_TRAIL

    @property
    def wanted(self) -> bool:
        """Whether its remaining sentences are still to be annotated."""
        return self.error is None and self.outcome == calls.OUTCOME_COMPLETE

    @property
    def over(self) -> bool:
        """Whether no further sentence of it will begin."""
        return self.whole or self.error is not None

    def out(self, spent: Timings) -> None:
        """A sentence of it is."""
        self.sent += 1
        self.queued += spent.queue
        self.computed += spent.compute

    def drop(self, outcome: calls.Outcome) -> None:
        """End early: give up what is under way."""
        if self.wanted and not self.ended:
            self.outcome = outcome
            self._give_up()

    def fail(self, error: ServeError) -> None:
        """End with an error: give up what is under way."""
        if self.wanted and not self.ended:
            self.error = error
            self._give_up()

    def end(self) -> None:
        """All has been said about it."""
        self.ended = True
        outcome = Outcome.FAILED if self.error is not None else _OUTCOMES[self.outcome]
        self.trail.ended(outcome, self.error)
        self.lease.release()
        self.ruler.clear()

    def _give_up(self) -> None:
        for work in self.work:
            work.cancel()


@dataclass(slots=True, eq=False)
class Document:
    """A document that is still arriving."""

    item: Item
    segmenter: Segmenter = field(default_factory=Segmenter)
    decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))
    received: int = 0

    def decode(self, content: bytes, last: bool) -> str:
        """Text of a chunk; a character that it cuts in two is kept for the next.

        Raises:
            InvalidRequestError: the bytes are no UTF-8, or the document is longer than offsets can tell.
        """
        held = len(self.decoder.getstate()[0])
        start = self.received - held
        self.received += len(content)
        try:
            text = self.decoder.decode(content, last)
        except UnicodeDecodeError as error:
            at = start + error.start
            raise InvalidRequestError("document_chunk.content", f"no UTF-8 at byte {at} of the document") from error
        if self.received > _OFFSET_LIMIT:
            raise InvalidRequestError("document_chunk.content", "the document is over 2 GiB; send it in parts")
        return text
