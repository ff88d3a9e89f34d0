"""A stream of turns and documents, for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc
import grpc.aio

from kniv.client import _requests
from kniv.client._aio_status import FinalStatus
from kniv.client._annotation import ModelReference, Task
from kniv.client._conversion import to_event
from kniv.client._errors import CallCancelledError, DeadlineExceededError, KnivError, StreamClosedError, not_made
from kniv.client._events import Event
from kniv.client._exchange import Exchange, Taken
from kniv.client._options import Predicates
from kniv.client._reconnect import Reconnect, report
from kniv.client._records import Response
from kniv.client._requests import Content, Request

_Value = TypeVar("_Value")
Call = grpc.aio.StreamStreamCall[Request, Response]


class _Requests:
    """What gRPC writes; not a generator, for gRPC drops it where it stands when the call ends."""

    def __init__(self, take: Callable[[], Awaitable[Taken]]) -> None:
        self._take = take

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        try:
            while (request := (await self._take()).request) is None:
                pass
            return request
        except EOFError:
            raise StopAsyncIteration from None


class OpenCall(Protocol):
    """Makes a call."""

    def __call__(self, requests: AsyncIterator[Request], /, *, timeout: float | None) -> Call:
        """``timeout`` in seconds."""


class AsyncStream:
    """A stream to the server; made by ``AsyncClient.stream`` and used in an ``async with`` block.

    Entering waits until the server has taken the configuration, so that an unknown model is an error there. Sending
    methods wait while the server is behind. Results are read in the background and kept until they are iterated over,
    up to ``max_unread_bytes``: a whole batch may be sent first and read afterwards. Beyond that, sending waits for the
    task that iterates, or raises UnreadResultsError if that is the sending task itself or none.

    Iterating gives events until the server ends the stream, which it does once ``close`` was called and every item
    has ended. If the connection breaks, the stream goes on over another one, without any event lost or doubled; see
    Reconnect. If the stream fails, what came before can still be read; then the error is raised. Leaving the block
    before that cancels the call. Cancelling a task that waits for the stream leaves the stream intact.
    """

    def __init__(
        self,
        open_call: OpenCall,
        configuration: Request,
        max_unread_bytes: int,
        timeout: float | None,
        reconnect: Reconnect | None,
        at_close: set[Callable[[], None]],
    ) -> None:
        self._open_call, self._timeout, self._reconnect = open_call, timeout, reconnect
        self._at_close = at_close  # what the client does when it is closed
        self._exchange = Exchange(configuration, max_unread_bytes, reconnect)
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            raise StreamClosedError("a stream can be entered only once")
        # The caller's tasks neither read nor write the call themselves: gRPC ends a call when a task that does so is
        # cancelled.
        self._at_close.add(self._client_closed)
        self._reader = asyncio.create_task(self._run())
        try:
            await self._wait(self._exchange.try_configured)
        except BaseException:
            await self._leave(self._reader)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reader is not None:
            await self._leave(self._reader)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        task = asyncio.current_task()
        try:
            response = await self._wait(lambda: self._exchange.try_take(task))
        except EOFError:
            raise StopAsyncIteration from None
        return to_event(response)

    @property
    def model(self) -> ModelReference:
        """The weights that the stream runs on."""
        return self._exchange.model

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the stream runs."""
        return self._exchange.tasks

    async def turn(
        self,
        text: str,
        *,
        speaker: str = "",
        turn_id: str | None = None,
        partial: bool = False,
        revision: int = 0,
        predicates: Predicates = (),
    ) -> str:
        """Send a turn in full; return its name, a new one if none is given.

        ``partial`` says that more of the turn may follow. To replace a turn, send it again under its name with a
        higher ``revision``.
        """
        turn_id = _requests.new_id() if turn_id is None else turn_id
        request = _requests.turn(
            turn_id, text, speaker=speaker, partial=partial, revision=revision, predicates=predicates
        )
        await self._send(request)
        return turn_id

    async def document(self, content: Content | AsyncIterable[str | bytes], document_id: str | None = None) -> str:
        """Send a document in pieces; return its name, a new one if none is given.

        ``content`` is a str, UTF-8 bytes, an iterable of either, asynchronous or not, or a file. If it cannot be read
        or sent to its end, the document is cancelled.
        """
        document_id = _requests.new_id() if document_id is None else document_id
        opened = False
        try:
            if isinstance(content, AsyncIterable):
                async for part in content:
                    for piece in _requests.document_slices(part):
                        await self.chunk(document_id, piece, last=False)
                        opened = True
                await self.chunk(document_id, b"", last=True)
            else:
                for piece, last in _requests.document_pieces(content):
                    await self.chunk(document_id, piece, last)
                    opened = True
        except BaseException:
            if opened:
                with suppress(KnivError):
                    self._send_at_once(_requests.document_cancellation(document_id))
            raise
        return document_id

    async def chunk(self, document_id: str, content: bytes, last: bool) -> None:
        """Send a piece of a document: UTF-8, cut anywhere. The first one opens the document, ``last`` ends it."""
        await self._send(_requests.document_chunk(document_id, content, last))

    async def cancel_turn(self, turn_id: str, revision: int | None = None) -> None:
        """Give a turn up, any revision or the one named, without waiting; what is finished of it may still arrive."""
        self._send_at_once(_requests.turn_cancellation(turn_id, revision))

    async def cancel_document(self, document_id: str) -> None:
        """Give a document up, without waiting; what is finished of it may still arrive."""
        self._send_at_once(_requests.document_cancellation(document_id))

    async def close(self) -> None:
        """Tell the server that nothing more will be sent. Results can still be read, to their end."""
        self._exchange.close_input()
        self._notify()

    async def _send(self, request: Request) -> None:
        task = asyncio.current_task()
        await self._wait(lambda: self._exchange.try_offer(request, task))

    def _send_at_once(self, request: Request) -> None:
        self._exchange.offer_at_once(request)
        self._notify()

    async def _wait(self, attempt: Callable[[], _Value | None]) -> _Value:
        while not (value := attempt()):
            await self._changed.wait()
        self._notify()
        return value

    def _notify(self) -> None:
        # All of this runs on one event loop, so that no lock is needed: who waits, waits for the event of now.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        """Make calls until one ends the stream."""
        until = None if self._timeout is None else time.monotonic() + self._timeout
        error: KnivError | None = None
        try:
            while (error := await self._serve(until)) is not None:
                loss = self._exchange.broke(error)
                self._notify()
                if loss is None:
                    break
                report(loss, self._reconnect)
                left = loss.delay_s if until is None else min(loss.delay_s, until - time.monotonic())
                await asyncio.sleep(left)
                await self._wait(self._exchange.try_resume)
                if self._exchange.ended:
                    break
        finally:
            self._end(error)

    async def _serve(self, until: float | None) -> KnivError | None:
        """One call to its end; why it failed."""
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return DeadlineExceededError("the stream's timeout passed")
        number = self._exchange.begin()
        requests = _Requests(lambda: self._wait(lambda: self._exchange.try_next_request(number)))
        try:
            call = self._open_call(requests, timeout=left)
        except Exception as failure:
            return not_made(failure)  # if the client was closed, the stream has ended by now
        status = FinalStatus(call)
        try:
            async for response in call:
                self._exchange.deliver(response)
                self._notify()
                await self._wait(self._exchange.has_space)
        except grpc.RpcError:
            return await status.error()
        except asyncio.CancelledError:
            if not call.done() or (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return await status.error()  # the call was, not this task
        finally:
            call.cancel()
        return None

    def _client_closed(self) -> None:
        """No call can be made any more; one that is under way, the channel cancels."""
        self._end(CallCancelledError("the client was closed"))

    async def _leave(self, reader: asyncio.Task[None]) -> None:
        self._at_close.discard(self._client_closed)
        self._end(StreamClosedError("the stream was left"))
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    def _end(self, error: KnivError | None) -> None:
        self._exchange.end(error)
        self._notify()
