"""One bidirectional stream: three tasks between the wire's two ends, none of which holds much.

The *reader* takes messages off the wire and registers items at once, so that a cancellation or a newer
revision overtakes what still waits. The *worker* cuts the items' texts into sentences, in the order of
arrival, and begins each, a task of its own, as the stream's share of sentences in flight allows. What comes
of it is put out as soon as it has ended. The *writer* puts answers on the wire, and only then gives their
shares back: so every queue is bounded, and a client that does not read is, in the end, not read from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import TypeAlias

from kniv.server.aside import aside
from kniv.server.errors import InferenceError, InvalidRequestError, ServeError, StoppingError
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.segment import Sentence
from kniv.server.pipeline.types import SentenceAnnotation, Timings
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services import convert
from kniv.server.services.inbox import Inbox
from kniv.server.services.intake import Intake, Work, reference_of
from kniv.server.services.item import Item
from kniv.server.services.items import Items
from kniv.server.services.rpc import heard, incoming
from kniv.server.services.status import item_status
from kniv.server.services.turnstile import Turnstile
from kniv.v1 import annotation_service_pb2 as calls

log = logging.getLogger(__name__)

Request: TypeAlias = calls.StreamAnnotationsRequest
Response: TypeAlias = calls.StreamAnnotationsResponse

_SHORT = 4096  # characters up to which segmenting is not worth a thread


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one stream may hold.

    Attributes:
        sentences: sentences in flight, until their answers are on the wire.
        messages, bytes: read and not yet begun.
        open_documents: documents arriving at once.
    """

    sentences: int = 64
    messages: int = 256
    bytes: int = 16 << 20
    open_documents: int = 256


@dataclass(frozen=True, slots=True)
class _Came:
    """What has come of a sentence, or of an item that has no sentence left to end it.

    Attributes:
        answer: the sentence, if it has been annotated, and what that took.
        error: why it has not.
    """

    item: Item
    answer: tuple[Response, Timings] | None = None
    error: ServeError | None = None


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
        self._unit, self._items = options.unit, items
        self._read, self._write, self._draining = read, write, draining
        self._inbox: Inbox[Work] = Inbox(limits.messages, limits.bytes)
        self._intake = Intake(options, caller, items, self._inbox)
        self._turnstile: Turnstile[_Came] = Turnstile(ordered)
        # Responses, with whose share is given back when they are on the wire; bounded by the shares.
        self._outbox: asyncio.Queue[tuple[asyncio.Semaphore, list[Response]] | None] = asyncio.Queue()
        self._permits = asyncio.Semaphore(limits.sentences)
        self._refusals = asyncio.Semaphore(limits.sentences)  # apart: refusing waits for no sentence
        self._under_way: set[asyncio.Task[SentenceAnnotation]] = set()
        self._over = False

    async def run(self, configured: calls.StreamConfigured) -> bool:
        """Serve until the client has half-closed, or the server drains, and all items have ended.

        Args:
            configured: what the client is told first.

        Returns:
            Whether everything that the client sent has been served.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer())
                await self._put(self._permits, Response(configured=configured))
                reader = group.create_task(self._reader())
                await self._worker()
                while self._under_way:
                    await asyncio.wait(self._under_way)
                for document in self._items.open_documents():  # the server stopped before their last chunk came
                    document.item.fail(StoppingError("the stream ended before this document did; send it anew"))
                    if not document.item.ended:
                        await self._put(self._permits, self._end(document.item))
                self._outbox.put_nowait(None)
        finally:
            try:
                await self._give_up()
            finally:  # a call may be cancelled twice
                self._items.release()
                self._inbox.clear()  # or its texts would be there until the stream's own objects are collected
        return reader.result()

    async def _writer(self) -> None:
        while (put := await self._outbox.get()) is not None:
            share, responses = put
            for response in responses:
                await self._write(response)
            share.release()

    async def _put(self, share: asyncio.Semaphore, response: Response) -> None:
        """Put out what is no sentence, as its share allows."""
        await share.acquire()
        self._outbox.put_nowait((share, [response]))

    async def _reader(self) -> bool:
        """Read to the end; whether that was the client's, not the server's."""
        heard_all = True
        try:
            async with aclosing(incoming(self._read, self._draining)) as messages:
                async for message in messages:
                    await self._take(message)
            await self._intake.close()
        except StoppingError:
            heard_all = False
        await self._inbox.close()
        return heard_all

    async def _take(self, message: Request | InvalidRequestError) -> None:
        """Take one message in; one at fault costs only itself."""
        try:
            if isinstance(message, InvalidRequestError):
                raise message
            await self._intake.take(message)
        except ServeError as error:
            reference = reference_of(message) if isinstance(message, Request) else None
            refusal = calls.ItemError(item=reference, error=item_status(error))
            await self._put(self._refusals, Response(error=refusal))

    async def _worker(self) -> None:
        while (work := await self._inbox.get()) is not None:
            item = work.item
            for sentence in await self._sentences(work):
                await self._permits.acquire()
                if not item.wanted:
                    self._permits.release()
                    break
                self._begin(item, sentence, work.ask)
            # What has come out is measured, so that a ruler holds no more text than the segmenter does.
            item.ruler.measure(work.segmenter.settled)
            item.whole = item.whole or work.last
            if item.over and not item.pending and not item.ended:
                await self._permits.acquire()
                item.pending += 1
                self._pass(self._turnstile.draw(), _Came(item))

    async def _sentences(self, work: Work) -> list[Sentence]:
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
        found = await aside(len(text) > _SHORT, work.segmenter.feed, text, work.last)
        work.item.trail.segmented(began, monotonic(), text, len(found))
        return found

    def _begin(self, item: Item, sentence: Sentence, ask: Ask) -> None:
        """Begin to annotate a sentence, for which there is a permit."""
        start, ticket = item.ruler.measure(sentence.start), self._turnstile.draw()
        work = asyncio.create_task(item.lease.annotator.annotate(sentence, item.begun, ask))
        for held in (self._under_way, item.work):
            held.add(work)
        item.begun += 1
        item.pending += 1
        # Called even of work that is given up before it has begun: its ticket must come back.
        work.add_done_callback(partial(self._annotated, item, start, ticket))

    def _annotated(self, item: Item, start: int, ticket: int, work: asyncio.Task[SentenceAnnotation]) -> None:
        """A sentence has been annotated, has failed or was given up; ``start`` is its offset in the caller's unit."""
        for held in (self._under_way, item.work):
            held.discard(work)
        heard(work)
        if not self._over:
            self._pass(ticket, self._came(item, start, work))

    def _came(self, item: Item, start: int, work: asyncio.Task[SentenceAnnotation]) -> _Came:
        if work.cancelled() or not item.wanted:
            return _Came(item)
        try:
            found, response = work.result(), Response()
            result = response.sentence
            result.item.CopyFrom(item.reference)
            result.speaker = item.speaker
            convert.set_sentence(result.annotation, found, start, self._unit, convert.reference(item.lease))
        except ServeError as error:
            return _Came(item, error=error)
        except Exception:
            log.exception("a sentence could not be annotated")
            return _Came(item, error=InferenceError("internal error; the server's log has it"))
        return _Came(item, (response, found.timings))

    def _pass(self, ticket: int, came: _Came) -> None:
        for one in self._turnstile.enter(ticket, came):
            self._outbox.put_nowait((self._permits, self._deliver(one)))

    def _deliver(self, came: _Came) -> list[Response]:
        """What is to be put out: a sentence that is still wanted and, after an item's last one, its end."""
        item, responses = came.item, list[Response]()
        if came.error is not None:
            item.fail(came.error)
        elif came.answer is not None and item.wanted:
            response, spent = came.answer
            responses.append(response)
            item.out(spent)
        item.pending -= 1
        if item.over and not item.pending:
            responses.append(self._end(item))
        return responses

    def _end(self, item: Item) -> Response:
        self._items.end(item)
        if item.error is not None:
            return Response(error=calls.ItemError(item=item.reference, error=item_status(item.error), item_ended=True))
        ended = Response(
            completion=calls.ItemCompletion(item=item.reference, outcome=item.outcome, sentence_count=item.sent)
        )
        spent = Timings(item.queued, item.computed, perf_counter() - item.arrived)
        convert.set_timings(ended.completion.timings, spent)
        return ended

    async def _give_up(self) -> None:
        """End what is under way: the stream is over, and nothing of it will be put out."""
        self._over = True
        for work in self._under_way:
            work.cancel()
        while self._under_way:
            await asyncio.wait(self._under_way)
