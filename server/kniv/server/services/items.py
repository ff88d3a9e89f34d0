"""The items of one stream: which there are, which are wanted still, and what context a turn has."""

from __future__ import annotations

import asyncio
import codecs
from collections import OrderedDict
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from kniv.server.errors import ConflictError, InvalidRequestError, NotFoundError, ServeError
from kniv.server.pipeline.segment import Segmenter
from kniv.server.pipeline.types import Timings
from kniv.server.services.offsets import Ruler, Unit
from kniv.v1 import annotation_service_pb2 as calls

REMEMBERED = 1 << 16  # names of ended items, so that a name used twice is noticed
_OFFSET_LIMIT = (1 << 31) - 1


@dataclass(slots=True, eq=False)
class Item:
    """A turn or document on its way.

    Attributes:
        reference: its name on the wire.
        outcome: set once the item ends early (cancelled, superseded).
        error: set once the item failed.
        whole: all its sentences have been begun.
        pending: sentences begun and not yet out.
        sent: timings of the sentences that are out.
        work: annotations that an early end cancels.
    """

    reference: calls.ItemReference
    speaker: str
    ruler: Ruler
    arrived: float = field(default_factory=perf_counter)
    outcome: calls.Outcome = calls.OUTCOME_COMPLETE
    error: ServeError | None = None
    whole: bool = False
    ended: bool = False
    begun: int = 0
    pending: int = 0
    sent: list[Timings] = field(default_factory=list)
    work: set[asyncio.Future[Any]] = field(default_factory=set)

    @property
    def wanted(self) -> bool:
        """Whether its remaining sentences are still to be annotated."""
        return self.error is None and self.outcome == calls.OUTCOME_COMPLETE

    @property
    def over(self) -> bool:
        """Whether no further sentence of it will begin."""
        return self.whole or self.error is not None

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


class Items:
    """All items of one stream.

    Args:
        unit: offset unit of the stream.
        context_turns: earlier turns that give a turn context.
        open_documents: most documents that may be arriving at once.
        ordered: answers must come in the items' order, so a document must end before another item begins.
    """

    def __init__(self, unit: Unit, context_turns: int, open_documents: int, ordered: bool) -> None:
        self._unit, self._context_turns = unit, context_turns
        self._open_documents, self._ordered = open_documents, ordered
        self._turns: OrderedDict[str, Item] = OrderedDict()
        self._ended_documents: OrderedDict[str, bool] = OrderedDict()  # name to whether it was cancelled
        self._documents: dict[str, Document] = {}
        self._history: list[tuple[str, str]] = []

    def turn(self, message: calls.Turn) -> tuple[Item, str | None]:
        """Take in a turn; an older revision that is still on its way is superseded.

        Returns:
            The item and its context: the text of the turns before it, None if there are none.

        Raises:
            InvalidRequestError: no name, a negative revision, or a document still open in an ordered stream.
            ConflictError: the turn is known with this or a later revision.
        """
        if not message.turn_id:
            raise InvalidRequestError("turn.turn_id", "must not be empty: answers refer to the turn by it")
        if message.revision < 0:
            raise InvalidRequestError("turn.revision", "must not be negative")
        self._in_order("turn")
        before = self._turns.get(message.turn_id)
        if before is not None:
            if before.reference.revision >= message.revision:
                raise ConflictError(
                    f"turn.turn_id: '{message.turn_id}' came before with revision {before.reference.revision}; "
                    "raise the revision to replace it or choose another name"
                )
            before.drop(calls.OUTCOME_SUPERSEDED)
        reference = calls.ItemReference(turn_id=message.turn_id, revision=message.revision)
        item = Item(reference, message.speaker, Ruler(self._unit))
        self._turns[message.turn_id] = item
        self._turns.move_to_end(message.turn_id)
        if len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)
        return item, self._context(message)

    def document(self, message: calls.DocumentChunk) -> Document | None:
        """The document of a chunk, opened by its first and closed by its last.

        Returns:
            The document; None if it was cancelled, so that the chunk is to be ignored.

        Raises:
            InvalidRequestError: no name, too many open documents, or another still open in an ordered stream.
            ConflictError: a document of this name has ended.
        """
        name = message.document_id
        if not name:
            raise InvalidRequestError("document_chunk.document_id", "must not be empty: answers refer to it")
        if name in self._documents:
            return self._ended(name) if message.last else self._documents[name]
        if self._ended_documents.get(name):
            return None
        if name in self._ended_documents:
            raise ConflictError(f"document_chunk.document_id: document '{name}' has ended; choose another name")
        self._in_order("document_chunk")
        if len(self._documents) >= self._open_documents:
            problem = f"{self._open_documents} documents are open; end one before opening another"
            raise InvalidRequestError("document_chunk.document_id", problem)
        opened = Document(Item(calls.ItemReference(document_id=name), "", Ruler(self._unit)))
        self._documents[name] = opened
        return self._ended(name) if message.last else opened

    def open_documents(self) -> list[Document]:
        """Documents whose last chunk has not come."""
        return list(self._documents.values())

    def cancel(self, reference: calls.ItemReference) -> Document | None:
        """Give an item up; one that has ended already is left as it is.

        Returns:
            The document that thereby ends, if it was still arriving.

        Raises:
            NotFoundError: the stream has had no such item.
        """
        if reference.WhichOneof("item") == "turn_id" and reference.turn_id in self._turns:
            self._turns[reference.turn_id].drop(calls.OUTCOME_CANCELLED)
            return None
        name = reference.document_id
        if name in self._documents:
            document = self._documents[name]
            document.item.drop(calls.OUTCOME_CANCELLED)
            return self._ended(name, cancelled=True)
        if name in self._ended_documents:
            return None
        raise NotFoundError(f"cancellation.item: the stream has no item '{reference.turn_id or name}'")

    def _ended(self, name: str, *, cancelled: bool = False) -> Document:
        self._ended_documents[name] = cancelled
        if len(self._ended_documents) > REMEMBERED:
            self._ended_documents.popitem(last=False)
        return self._documents.pop(name)

    def _in_order(self, field_name: str) -> None:
        if self._ordered and self._documents:
            name = next(iter(self._documents))
            problem = f"document '{name}' is still open; with ORDERING_IN_ORDER end it before the next item"
            raise InvalidRequestError(field_name, problem)

    def _context(self, message: calls.Turn) -> str | None:
        before = [text for name, text in self._history if name != message.turn_id]
        context = " ".join(before[-self._context_turns :]) if self._context_turns else ""
        if not message.is_partial and message.text.strip():
            self._remember(message.turn_id, message.text)
        return context or None

    def _remember(self, name: str, text: str) -> None:
        for place, (known, _) in enumerate(self._history):
            if known == name:
                self._history[place] = (name, text)
                return
        self._history = [*self._history, (name, text)][-(self._context_turns + 1) :]
