"""A stream of turns and documents, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio

from kniv.client import _requests
from kniv.client._aio_status import FinalStatus
from kniv.client._annotation import ModelReference, Task
from kniv.client._conversion import to_event
from kniv.client._errors import CallCancelledError, KnivError, StreamClosedError
from kniv.client._events import Event
from kniv.client._exchange import Exchange, Response
from kniv.client._options import Predicates
from kniv.client._requests import Content, Request

_Value = TypeVar("_Value")
Call = grpc.aio.StreamStreamCall[Request, Response]


class _Requests:
    """What gRPC writes; not a generator, for gRPC drops it where it stands when the call ends."""

    def __init__(self, next_request: Callable[[], Awaitable[Request]]) -> None:
        self._next_request = next_request

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        try:
            return await self._next_request()
        except EOFError:
            raise StopAsyncIteration from None


class AsyncStream:
    """A stream to the server; made by ``AsyncClient.stream`` and used in an ``async with`` block.

    Entering waits until the server has taken the configuration, so that an unknown model is an error there. Sending
    methods wait while the server is behind. Results are read in the background and kept until they are iterated over,
    up to ``max_unread_bytes``: a whole batch may be sent first and read afterwards. Beyond that, sending waits for the
    task that iterates, or raises UnreadResultsError if that is the sending task itself or none.

    Iterating gives events until the server ends the stream, which it does once ``close`` was called and every item
    has ended. If the call fails, what came before can still be read; then the error is raised. Leaving the block
    before that cancels the call. Cancelling a task that waits for the stream leaves the stream intact.
    """

    def __init__(
        self, open_call: Callable[[AsyncIterator[Request]], Call], configuration: Request, max_unread_bytes: int
    ) -> None:
        self._open_call = open_call
        self._exchange = Exchange(configuration, max_unread_bytes)
        self._changed = asyncio.Event()
        self._call: Call | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._call is not None:
            raise StreamClosedError("a stream can be entered only once")
        # The caller's tasks neither read nor write the call themselves: gRPC ends a call when a task that does so is
        # cancelled.
        self._call = self._open_call(_Requests(lambda: self._wait(self._exchange.try_next_request)))
        self._reader = asyncio.create_task(self._read(self._call))
        try:
            await self._wait(self._exchange.try_configured)
        except BaseException:
            await self._leave(self._call, self._reader)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._call is not None and self._reader is not None:
            await self._leave(self._call, self._reader)

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

    async def _read(self, call: Call) -> None:
        error: KnivError | None = None
        status = FinalStatus(call)
        try:
            async for response in call:
                self._exchange.deliver(response)
                self._notify()
                await self._wait(self._exchange.has_space)
        except grpc.RpcError:
            error = await status.error()
        except asyncio.CancelledError:
            error = CallCancelledError("the call was cancelled, for example by closing the client")
            raise
        finally:
            self._end(error)

    async def _leave(self, call: Call, reader: asyncio.Task[None]) -> None:
        self._end(StreamClosedError("the stream was left"))
        call.cancel()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    def _end(self, error: KnivError | None) -> None:
        self._exchange.end(error)
        self._notify()
