"""One bidirectional stream: three tasks between the wire's two ends, none of which holds much.

The *reader* takes messages off the wire and registers items at once, so that a cancellation or a newer
revision overtakes what still waits. The *worker* cuts the items' texts into sentences, in the order of
arrival, and begins each as the stream's share of sentences in flight allows. The *writer* puts answers on
the wire. Every queue between them is bounded: a client that does not read is, in the end, not read from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import monotonic, perf_counter
from typing import TypeAlias

from kniv.server.errors import InferenceError, InvalidRequestError, ServeError, StoppingError
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.segment import Segmenter, Sentence
from kniv.server.pipeline.types import SentenceAnnotation
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services import convert
from kniv.server.services.inbox import Inbox
from kniv.server.services.item import Document, Item
from kniv.server.services.items import Items
from kniv.server.services.offsets import to_code_points
from kniv.server.services.rpc import heard, incoming
from kniv.server.services.status import item_status
from kniv.server.services.turnstile import Turnstile
from kniv.v1 import annotation_service_pb2 as calls

log = logging.getLogger(__name__)

Request: TypeAlias = calls.StreamAnnotationsRequest
Response: TypeAlias = calls.StreamAnnotationsResponse

_LONG = 4096  # characters from which segmenting is worth a thread


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one stream may hold.

    Attributes:
        sentences: sentences in flight.
        messages, bytes: read and not yet begun.
        open_documents: documents arriving at once.
    """

    sentences: int = 64
    messages: int = 256
    bytes: int = 16 << 20
    open_documents: int = 256


@dataclass(frozen=True, slots=True)
class _Work:
    """A piece of an item's text for the worker."""

    item: Item
    segmenter: Segmenter
    ask: Ask
    last: bool
    text: str = ""
    document: Document | None = None
    content: bytes = b""


class AnnotationStream:
    """Serves one stream.

    Args:
        options: the stream's options.
        caller: how its rows stand among others.
        items: the stream's items.
        ordered: answers come in the order of the items.
        limits: what the stream may hold.
        read: the next request, None at the client's half-close; raises InvalidRequestError for one that cannot
            be parsed.
        write: puts a response on the wire.
        draining: set when the server is to stop: nothing more is read, and what was read is finished.
    """

    def __init__(
        self,
        options: convert.Options,
        caller: Urgency,
        items: Items,
        ordered: bool,
        limits: StreamLimits,
        read: Callable[[], Awaitable[Request | None]],
        write: Callable[[Response], Awaitable[None]],
        draining: asyncio.Event,
    ) -> None:
        self._options, self._caller, self._items = options, caller, items
        self._read, self._write, self._draining = read, write, draining
        self._turnstile = Turnstile(ordered)
        self._inbox: Inbox[_Work] = Inbox(limits.messages, limits.bytes)
        self._outbox: asyncio.Queue[Response | None] = asyncio.Queue(limits.sentences)
        self._permits = asyncio.Semaphore(limits.sentences)

    async def run(self, configured: calls.StreamConfigured) -> bool:
        """Serve until the client has half-closed, or the server drains, and all items have ended.

        Args:
            configured: what the client is told first.

        Returns:
            Whether everything that the client sent has been served.
        """
        await self._outbox.put(Response(configured=configured))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer())
                reader = group.create_task(self._reader())
                async with asyncio.TaskGroup() as sentences:
                    await self._worker(sentences)
                for document in self._items.open_documents():  # the server stopped before their last chunk came
                    document.item.fail(StoppingError("the stream ended before this document did; send it anew"))
                    await self._end(document.item)
                await self._outbox.put(None)
        finally:
            self._items.release()
        return reader.result()

    async def _writer(self) -> None:
        while (response := await self._outbox.get()) is not None:
            await self._write(response)

    async def _reader(self) -> bool:
        """Read to the end; whether that was the client's, not the server's."""
        heard_all = True
        try:
            async with aclosing(incoming(self._read, self._draining)) as messages:
                async for message in messages:
                    if isinstance(message, InvalidRequestError):
                        await self._refuse(None, message)
                    else:
                        await self._take(message)
            for document in self._items.open_documents():
                await self._inbox.put(self._end_of(document), 0)
        except StoppingError:
            heard_all = False
        await self._inbox.close()
        return heard_all

    async def _take(self, message: Request) -> None:
        """Register one message's item and queue its text; a message at fault costs only itself."""
        kind = message.WhichOneof("message")
        try:
            if kind == "turn":
                await self._take_turn(message.turn)
            elif kind == "document_chunk":
                await self._take_chunk(message.document_chunk)
            elif kind == "cancellation":
                document = self._items.cancel(message.cancellation.item)
                if document is not None:
                    await self._inbox.put(self._end_of(document), 0)
            elif kind == "configuration":
                raise InvalidRequestError(
                    "configuration", "the stream is configured already; open another for other options"
                )
            else:
                raise InvalidRequestError("message", "empty; send a turn, a document chunk or a cancellation")
        except ServeError as error:
            await self._refuse(_reference(message), error)

    async def _take_turn(self, turn: calls.Turn) -> None:
        if turn.context_only:
            self._items.remember(turn)
            return
        predicates = self._predicates(turn)
        item, previous = self._items.turn(turn)
        item.ruler.feed(turn.text)
        ask = self._ask(item, previous, predicates, final=not turn.is_partial)
        await self._inbox.put(_Work(item, Segmenter(), ask, last=True, text=turn.text), turn.ByteSize())

    async def _take_chunk(self, chunk: calls.DocumentChunk) -> None:
        document = self._items.document(chunk)
        if document is not None:
            work = _Work(
                document.item,
                document.segmenter,
                self._ask(document.item),
                chunk.last,
                document=document,
                content=chunk.content,
            )
            await self._inbox.put(work, chunk.ByteSize())

    def _end_of(self, document: Document) -> _Work:
        """What ends a document whose last chunk never came."""
        return _Work(document.item, document.segmenter, self._ask(document.item), last=True, document=document)

    def _ask(
        self, item: Item, previous: str | None = None, predicates: tuple[int, ...] | None = None, *, final: bool = True
    ) -> Ask:
        urgency = replace(self._caller, final=final, trail=item.trail)
        return Ask(self._options.tasks, previous, predicates, urgency)

    def _predicates(self, turn: calls.Turn) -> tuple[int, ...] | None:
        """Offsets of the caller's predicates in the turn's text, in code points."""
        if not turn.predicates:
            return None
        starts = [span.start for span in turn.predicates]
        return tuple(to_code_points(starts, turn.text, self._options.unit, "turn.predicates"))

    async def _worker(self, group: asyncio.TaskGroup) -> None:
        while (work := await self._inbox.get()) is not None:
            item = work.item
            for sentence in await self._sentences(work):
                if not item.wanted:
                    break
                await self._permits.acquire()
                item.pending += 1
                item.begun += 1
                start = item.ruler.measure(sentence.start)
                task = self._sentence(item, sentence, item.begun - 1, start, work.ask, self._turnstile.draw())
                group.create_task(task)
            # What has come out is measured, so that a ruler holds no more text than the segmenter does.
            item.ruler.measure(work.segmenter.settled)
            item.whole = item.whole or work.last
            if item.over and not item.pending and not item.ended:
                await self._permits.acquire()
                group.create_task(self._close(item, self._turnstile.draw()))

    async def _sentences(self, work: _Work) -> list[Sentence]:
        if not work.item.wanted:
            return []
        text = work.text
        if work.document is not None:
            try:
                text = work.document.decode(work.content, work.last)
            except InvalidRequestError as error:
                work.item.fail(error)
                return []
            work.item.ruler.feed(text)
        began = monotonic()
        if len(text) < _LONG:
            found = work.segmenter.feed(text, work.last)
        else:
            found = await asyncio.to_thread(work.segmenter.feed, text, work.last)
        work.item.trail.segmented(began, monotonic(), text, len(found))
        return found

    async def _sentence(self, item: Item, sentence: Sentence, index: int, start: int, ask: Ask, ticket: int) -> None:
        """Annotate one sentence and put it out; ``start`` is its offset in the caller's unit."""
        work = asyncio.ensure_future(item.lease.annotator.annotate(sentence, index, ask))
        work.add_done_callback(heard)
        item.work.add(work)
        if not item.wanted:
            work.cancel()
        try:
            await asyncio.wait({work})
            await self._turnstile.enter(ticket)
            await self._deliver(item, work, start)
        finally:
            self._turnstile.leave(ticket)
            work.cancel()
            item.work.discard(work)
            self._permits.release()

    async def _deliver(self, item: Item, work: asyncio.Future[SentenceAnnotation], start: int) -> None:
        """Put a finished sentence out; after an item's last one, its end."""
        if not work.cancelled():
            try:
                found = work.result()
                if item.wanted:
                    model = convert.reference(item.lease)
                    annotation = convert.sentence(found, start, self._options.unit, model)
                    item.sent.append(found.timings)
                    result = calls.SentenceResult(item=item.reference, annotation=annotation, speaker=item.speaker)
                    await self._outbox.put(Response(sentence=result))
            except ServeError as error:
                item.fail(error)
            except Exception:
                log.exception("a sentence could not be annotated")
                item.fail(InferenceError("internal error; the server's log has it"))
        # Only now: a sibling that found none pending would put the item's end out before this sentence.
        item.pending -= 1
        if item.over and not item.pending:
            await self._end(item)

    async def _close(self, item: Item, ticket: int) -> None:
        """End an item that has no sentence left to end it."""
        try:
            await self._turnstile.enter(ticket)
            await self._end(item)
        finally:
            self._turnstile.leave(ticket)
            self._permits.release()

    async def _end(self, item: Item) -> None:
        if item.ended:
            return
        spent, sent = convert.total(item.sent, perf_counter() - item.arrived), len(item.sent)
        self._items.end(item)
        if item.error is not None:
            failure = calls.ItemError(item=item.reference, error=item_status(item.error), item_ended=True)
            await self._outbox.put(Response(error=failure))
            return
        completion = calls.ItemCompletion(item=item.reference, outcome=item.outcome, sentence_count=sent, timings=spent)
        await self._outbox.put(Response(completion=completion))

    async def _refuse(self, reference: calls.ItemReference | None, error: ServeError) -> None:
        await self._outbox.put(Response(error=calls.ItemError(item=reference, error=item_status(error))))


def _reference(message: Request) -> calls.ItemReference | None:
    kind = message.WhichOneof("message")
    if kind == "turn":
        return calls.ItemReference(turn_id=message.turn.turn_id, revision=message.turn.revision)
    if kind == "document_chunk":
        return calls.ItemReference(document_id=message.document_chunk.document_id)
    return message.cancellation.item if kind == "cancellation" else None
