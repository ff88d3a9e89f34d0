"""A stream of turns and documents, for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc

from kniv.client import _requests
from kniv.client._annotation import ModelReference, Task
from kniv.client._conversion import to_event
from kniv.client._errors import (
    CallCancelledError,
    DeadlineExceededError,
    KnivError,
    StreamClosedError,
    from_rpc_error,
    not_made,
)
from kniv.client._events import Event
from kniv.client._exchange import Exchange
from kniv.client._options import Predicates
from kniv.client._reconnect import Reconnect, report
from kniv.client._records import Response
from kniv.client._requests import Content, Request

_Value = TypeVar("_Value")


class Call(Protocol):
    """What is used of gRPC's call object."""

    def __next__(self) -> Response:
        """Wait for a response."""

    def cancel(self) -> bool:
        """End the call."""


class OpenCall(Protocol):
    """Makes a call."""

    def __call__(self, requests: Iterator[Request], /, *, timeout: float | None) -> Call:
        """``timeout`` in seconds."""


class Stream:
    """A stream to the server; made by ``Client.stream`` and used in a ``with`` block.

    Entering waits until the server has taken the configuration, so that an unknown model is an error there. Sending
    methods wait while the server is behind. Results are read in the background and kept until they are iterated over,
    up to ``max_unread_bytes``: a whole batch may be sent first and read afterwards. Beyond that, sending waits for the
    thread that iterates, or raises UnreadResultsError if that is the sending thread itself or none.

    Iterating gives events until the server ends the stream, which it does once ``close`` was called and every item
    has ended. If the connection breaks, the stream goes on over another one, without any event lost or doubled; see
    Reconnect. If the stream fails, what came before can still be read; then the error is raised. Leaving the block
    before that cancels the call. Every method may be called from any thread.
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
        self._changed = threading.Condition()
        self._call: Call | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._reader is not None:
            raise StreamClosedError("a stream can be entered only once")
        self._at_close.add(self._client_closed)
        self._reader = threading.Thread(target=self._run, name="kniv-stream", daemon=True)
        self._reader.start()
        try:
            self._wait(self._exchange.try_configured)
        except BaseException:
            self._leave(self._reader)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._leave(self._reader)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            response = self._wait(lambda: self._exchange.try_take(threading.get_ident()))
        except EOFError:
            raise StopIteration from None
        return to_event(response)

    @property
    def model(self) -> ModelReference:
        """The weights that the stream runs on."""
        return self._exchange.model

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the stream runs."""
        return self._exchange.tasks

    def turn(
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
        self._send(request)
        return turn_id

    def document(self, content: Content, document_id: str | None = None) -> str:
        """Send a document in pieces; return its name, a new one if none is given.

        ``content`` is a str, UTF-8 bytes, an iterable of either, or a file. If it cannot be read or sent to its end,
        the document is cancelled.
        """
        document_id = _requests.new_id() if document_id is None else document_id
        opened = False
        try:
            for piece, last in _requests.document_pieces(content):
                self.chunk(document_id, piece, last)
                opened = True
        except BaseException:
            if opened:
                with suppress(KnivError):
                    self.cancel_document(document_id)
            raise
        return document_id

    def chunk(self, document_id: str, content: bytes, last: bool) -> None:
        """Send a piece of a document: UTF-8, cut anywhere. The first one opens the document, ``last`` ends it."""
        self._send(_requests.document_chunk(document_id, content, last))

    def cancel_turn(self, turn_id: str, revision: int | None = None) -> None:
        """Give a turn up, any revision or the one named, without waiting; what is finished of it may still arrive."""
        self._send_at_once(_requests.turn_cancellation(turn_id, revision))

    def cancel_document(self, document_id: str) -> None:
        """Give a document up, without waiting; what is finished of it may still arrive."""
        self._send_at_once(_requests.document_cancellation(document_id))

    def close(self) -> None:
        """Tell the server that nothing more will be sent. Results can still be read, to their end."""
        with self._changed:
            self._exchange.close_input()
            self._changed.notify_all()

    def _send(self, request: Request) -> None:
        self._wait(lambda: self._exchange.try_offer(request, threading.get_ident()))

    def _send_at_once(self, request: Request) -> None:
        with self._changed:
            self._exchange.offer_at_once(request)
            self._changed.notify_all()

    def _wait(self, attempt: Callable[[], _Value | None]) -> _Value:
        with self._changed:
            while not (value := attempt()):
                self._changed.wait()
            self._changed.notify_all()
            return value

    def _write(self, number: int) -> Iterator[Request]:
        with suppress(EOFError):
            while True:
                taken = self._wait(lambda: self._exchange.try_next_request(number))
                if taken.request is not None:
                    yield taken.request

    def _run(self) -> None:
        """Make calls until one ends the stream."""
        until = None if self._timeout is None else time.monotonic() + self._timeout
        error: KnivError | None = None
        try:
            while (error := self._serve(until)) is not None:
                with self._changed:
                    loss = self._exchange.broke(error)
                    self._changed.notify_all()
                if loss is None:
                    break
                report(loss, self._reconnect)
                self._pause(loss.delay_s, until)
                self._wait(self._exchange.try_resume)
                if self._exchange.ended:
                    break
        finally:
            self._end(error)

    def _serve(self, until: float | None) -> KnivError | None:
        """One call to its end; why it failed."""
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return DeadlineExceededError("the stream's timeout passed")
        with self._changed:
            number = self._exchange.begin()
        try:
            call = self._open_call(self._write(number), timeout=left)
        except Exception as failure:
            return not_made(failure)  # if the client was closed, the stream has ended by now
        with self._changed:
            self._call = call
            if self._exchange.ended:
                call.cancel()
        try:
            while self._wait(self._exchange.has_space) and (response := next(call, None)) is not None:
                with self._changed:
                    self._exchange.deliver(response)
                    self._changed.notify_all()
        except grpc.RpcError as failure:
            return from_rpc_error(failure)
        return None

    def _pause(self, delay: float, until: float | None) -> None:
        """Wait for some time, or until the stream is over."""
        if until is not None:
            delay = min(delay, until - time.monotonic())
        with self._changed:
            self._changed.wait_for(lambda: self._exchange.ended, delay)

    def _client_closed(self) -> None:
        """No call can be made any more; one that is under way, the channel cancels."""
        self._end(CallCancelledError("the client was closed"))

    def _leave(self, reader: threading.Thread) -> None:
        self._at_close.discard(self._client_closed)
        self._end(StreamClosedError("the stream was left"))
        with self._changed:
            if self._call is not None:
                self._call.cancel()
        reader.join()

    def _end(self, error: KnivError | None) -> None:
        with self._changed:
            self._exchange.end(error)
            self._changed.notify_all()
