"""What a stream's messages begin: each is registered at once, and its text waits for the worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kniv.server.errors import InvalidRequestError
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.segment import Segmenter
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services.convert import Options
from kniv.server.services.inbox import Inbox
from kniv.server.services.item import Document, Item
from kniv.server.services.items import LONGEST_NAME, Items
from kniv.server.services.offsets import to_code_points
from kniv.v1 import annotation_service_pb2 as calls


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of an item's text for the worker.

    Attributes:
        item: the item.
        segmenter: cuts its text.
        ask: what is wanted of its sentences.
        last: no further piece of it will come.
        text: of a turn.
        document, content: of a document.
    """

    item: Item
    segmenter: Segmenter
    ask: Ask
    last: bool
    text: str = ""
    document: Document | None = None
    content: bytes = b""


class Intake:
    """Takes a stream's messages in.

    Args:
        options: the stream's options.
        caller: how its rows stand among others.
        items: the stream's items.
        inbox: where work waits.
    """

    def __init__(self, options: Options, caller: Urgency, items: Items, inbox: Inbox[Work]) -> None:
        self._options, self._caller, self._items, self._inbox = options, caller, items, inbox

    async def take(self, message: calls.StreamAnnotationsRequest) -> None:
        """Register one message's item and queue its text, waiting for room.

        Raises:
            ServeError: the message is at fault.
        """
        kind = message.WhichOneof("message")
        if kind == "turn":
            await self._turn(message.turn)
        elif kind == "document_chunk":
            await self._chunk(message.document_chunk)
        elif kind == "cancellation":
            document = self._items.cancel(message.cancellation.item)
            if document is not None:
                await self._end(document)
        elif kind == "configuration":
            raise InvalidRequestError(
                "configuration", "the stream is configured already; open another for other options"
            )
        else:
            raise InvalidRequestError("message", "empty; send a turn, a document chunk or a cancellation")

    async def close(self) -> None:
        """The client has half-closed: documents whose last chunk never came end."""
        for document in self._items.open_documents():
            await self._end(document)

    async def _turn(self, turn: calls.Turn) -> None:
        if turn.context_only:
            self._items.remember(turn)
            return
        predicates = self._predicates(turn)
        item, previous = self._items.turn(turn)
        item.ruler.feed(turn.text)
        ask = self._ask(item, previous, predicates, final=not turn.is_partial)
        await self._inbox.put(Work(item, Segmenter(), ask, last=True, text=turn.text), turn.ByteSize())

    async def _chunk(self, chunk: calls.DocumentChunk) -> None:
        document = self._items.document(chunk)
        if document is not None:
            work = Work(
                document.item,
                document.segmenter,
                self._ask(document.item),
                chunk.last,
                document=document,
                content=chunk.content,
            )
            await self._inbox.put(work, chunk.ByteSize())

    async def _end(self, document: Document) -> None:
        ask = self._ask(document.item)
        await self._inbox.put(Work(document.item, document.segmenter, ask, last=True, document=document), 0)

    def _ask(
        self, item: Item, previous: str | None = None, predicates: tuple[int, ...] | None = None, *, final: bool = True
    ) -> Ask:
        urgency = replace(self._caller, final=final, trail=item.trail)
        return Ask(self._options.tasks, previous, predicates, urgency)

    def _predicates(self, turn: calls.Turn) -> tuple[int, ...] | None:
        """Offsets of the caller's predicates in the turn's text, in code points."""
        if not turn.predicates:
            return None
        return tuple(to_code_points(turn.predicates, turn.text, self._options.unit, "turn.predicates"))


def reference_of(message: calls.StreamAnnotationsRequest) -> calls.ItemReference | None:
    """The item that a message is about; None if it names none. Of a name that is too long it has the beginning."""
    found = calls.ItemReference()
    match message.WhichOneof("message"):
        case "turn":
            found.turn_id, found.revision = message.turn.turn_id, message.turn.revision
        case "document_chunk":
            found.document_id = message.document_chunk.document_id
        case "cancellation":
            found.CopyFrom(message.cancellation.item)
        case _:
            return None
    if (kind := found.WhichOneof("item")) is not None:
        setattr(found, kind, getattr(found, kind)[:LONGEST_NAME])
    return found
