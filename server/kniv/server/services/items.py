"""The items of one stream: which there are, which are wanted still, and what context a turn has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from kniv.server.errors import ConflictError, InvalidRequestError, NotFoundError, ServeError, shown
from kniv.server.models.version import Lease, trail_on
from kniv.server.scheduling.trail import NO_TRAIL, Kind, Outcome
from kniv.server.services.history import History
from kniv.server.services.item import Document, Item
from kniv.server.services.offsets import Ruler, Unit
from kniv.v1 import annotation_service_pb2 as calls

REMEMBERED = 1 << 16  # names of ended items, so that a name used twice is noticed
LONGEST_NAME = 256


class _Gone(Enum):
    """What has become of a document of which nothing more is wanted."""

    ENDED = auto()  # all of it has come
    CANCELLED = auto()  # what still comes of it is ignored
    REFUSED = auto()  # likewise, and after that its name is free: it never began


class _Named(NamedTuple):
    """A turn as its name is remembered, long after it has ended.

    Attributes:
        revision: the last that came.
        arrival: its place among the stream's turns.
        context_only: it was to be remembered, not annotated.
    """

    revision: int
    arrival: int
    context_only: bool


class Items:
    """All items of one stream.

    Args:
        unit: offset unit of the stream.
        context_turns: earlier turns that give a turn context.
        open_documents: most documents that may be arriving at once.
        ordered: answers must come in the items' order, so a document must end before another item begins.
        lease: holds the model for an item. Each item takes its own, so that a long stream follows a reload.
    """

    def __init__(
        self, unit: Unit, context_turns: int, open_documents: int, ordered: bool, lease: Callable[[], Lease]
    ) -> None:
        self._unit, self._history = unit, History(context_turns)
        self._open_documents, self._ordered, self._lease = open_documents, ordered, lease
        self._live: set[Item] = set()
        self._named: OrderedDict[str, _Named] = OrderedDict()
        self._turns: dict[str, Item] = {}  # the last revision of each that has not ended
        self._documents: dict[str, Document] = {}
        self._gone: OrderedDict[str, _Gone] = OrderedDict()  # documents by name
        self._arrivals = 0

    def turn(self, message: calls.Turn) -> tuple[Item, str | None]:
        """Take in a turn; an older revision that is still on its way is superseded.

        Returns:
            The item and its context: the text of the turns before it, None if there are none.

        Raises:
            InvalidRequestError: a name at fault, a negative revision, or a document still open in an ordered stream.
            ConflictError: the turn is known with this or a later revision.
            NotFoundError, NotReadyError: the stream's model is there no more.
        """
        _check_name("turn.turn_id", message.turn_id)
        if len(message.speaker) > LONGEST_NAME:
            raise InvalidRequestError("turn.speaker", f"longer than {LONGEST_NAME} characters")
        if message.revision < 0:
            raise InvalidRequestError("turn.revision", "must not be negative")
        self._in_order("turn")
        before = self._named.get(message.turn_id)
        if before is not None and before.revision >= message.revision:
            raise ConflictError(
                f"turn.turn_id: {shown(message.turn_id)} came before with revision {before.revision}; "
                "raise the revision to replace it or choose another name"
            )
        lease = self._lease()
        if message.turn_id in self._turns:
            self._turns[message.turn_id].drop(calls.OUTCOME_SUPERSEDED)
        self._arrivals += 1
        arrival = before.arrival if before is not None else self._arrivals
        reference = calls.ItemReference(turn_id=message.turn_id, revision=message.revision)
        trail = NO_TRAIL if message.context_only else trail_on(lease, Kind.TURN, message.turn_id)
        item = self._begun(Item(reference, message.speaker, Ruler(self._unit), lease, trail=trail))
        self._turns[message.turn_id] = item
        self._named[message.turn_id] = _Named(message.revision, arrival, message.context_only)
        self._named.move_to_end(message.turn_id)
        if len(self._named) > REMEMBERED:
            self._named.popitem(last=False)
        context = self._history.before(arrival)
        if not message.is_partial:
            self._history.add(arrival, message.text)
        return item, context

    def remember(self, message: calls.Turn) -> None:
        """Take in a turn that only gives context: it has ended before it began.

        Raises:
            ServeError: as :meth:`turn`.
        """
        self.end(self.turn(message)[0])

    def document(self, message: calls.DocumentChunk) -> Document | None:
        """The document of a chunk, opened by its first and closed by its last.

        Returns:
            The document; None if it was cancelled or refused, so that the chunk is to be ignored.

        Raises:
            InvalidRequestError: a name at fault, too many open documents, or another still open in an ordered stream.
            ConflictError: a document of this name has ended.
            NotFoundError, NotReadyError: the stream's model is there no more.
        """
        name = message.document_id
        _check_name("document_chunk.document_id", name)
        if name in self._documents:
            return self._ended(name) if message.last else self._documents[name]
        gone = self._gone.get(name)
        if gone is _Gone.ENDED:
            raise ConflictError(f"document_chunk.document_id: document {shown(name)} has ended; choose another name")
        if gone is not None:
            if message.last and gone is _Gone.REFUSED:
                del self._gone[name]
            elif message.last:
                self._forget_document(name, _Gone.ENDED)
            return None
        try:
            self._in_order("document_chunk")
            self._bound_documents()
            lease = self._lease()
        except ServeError:
            if not message.last:  # or the next chunk would open a document that lacks its beginning
                self._forget_document(name, _Gone.REFUSED)
            raise
        reference = calls.ItemReference(document_id=name)
        trail = trail_on(lease, Kind.DOCUMENT, name)
        opened = Document(self._begun(Item(reference, "", Ruler(self._unit), lease, trail=trail)))
        self._documents[name] = opened
        return self._ended(name) if message.last else opened

    def open_documents(self) -> list[Document]:
        """Documents whose last chunk has not come."""
        return list(self._documents.values())

    def cancel(self, reference: calls.ItemReference) -> Document | None:
        """Give an item up; one that has ended already, or another revision, is left as it is.

        Returns:
            The document that thereby ends, if it was still arriving.

        Raises:
            NotFoundError: the stream has had no such item.
        """
        if reference.WhichOneof("item") == "turn_id" and reference.turn_id in self._named:
            named, item = self._named[reference.turn_id], self._turns.get(reference.turn_id)
            if not reference.HasField("revision") or reference.revision == named.revision:
                if named.context_only or (item is not None and item.wanted):
                    self._history.remove(named.arrival)
                if item is not None:
                    item.drop(calls.OUTCOME_CANCELLED)
            return None
        name = reference.document_id
        if name in self._documents:
            self._documents[name].item.drop(calls.OUTCOME_CANCELLED)
            return self._ended(name, _Gone.CANCELLED)
        if name in self._gone:
            for item in self._live:  # all of it has come; it may not have been annotated yet
                if item.reference.document_id == name:
                    item.drop(calls.OUTCOME_CANCELLED)
            return None
        raise NotFoundError(f"cancellation.item: the stream has no item {shown(reference.turn_id or name)}")

    def end(self, item: Item) -> None:
        """All has been said about an item."""
        item.end()
        self._live.discard(item)
        if self._turns.get(item.reference.turn_id) is item:
            del self._turns[item.reference.turn_id]

    def give_up(self, error: ServeError) -> None:
        """End all that has not ended with an error."""
        for item in list(self._live):
            item.fail(error)

    def release(self) -> None:
        """Give up the models that items still hold: the stream is over."""
        for item in self._live:
            item.trail.ended(Outcome.ABANDONED)
            item.lease.release()

    def _begun(self, item: Item) -> Item:
        self._live.add(item)
        return item

    def _ended(self, name: str, how: _Gone = _Gone.ENDED) -> Document:
        self._forget_document(name, how)
        return self._documents.pop(name)

    def _forget_document(self, name: str, how: _Gone) -> None:
        self._gone[name] = how
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    def _in_order(self, field_name: str) -> None:
        arriving = [name for name, document in self._documents.items() if document.item.error is None]
        if self._ordered and arriving:
            problem = f"document {shown(arriving[0])} is still open; with ORDERING_IN_ORDER end it before the next item"
            raise InvalidRequestError(field_name, problem)

    def _bound_documents(self) -> None:
        if len(self._documents) >= self._open_documents:
            problem = f"{self._open_documents} documents are open; end one before opening another"
            raise InvalidRequestError("document_chunk.document_id", problem)


def _check_name(field_name: str, name: str) -> None:
    if not name:
        raise InvalidRequestError(field_name, "must not be empty: answers refer to the item by it")
    if len(name) > LONGEST_NAME:
        raise InvalidRequestError(field_name, f"longer than {LONGEST_NAME} characters")
