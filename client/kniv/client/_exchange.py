"""The two buffers of a stream and the rules between them: no I/O, no locks, the same for both clients.

A gRPC write waits once the server has about 64 KB that it has not read, and a server that may not write stops
reading. So somebody must always read: a thread or task takes in results while the caller sends. Both buffers are
bounded. When the results' one is full, the reader pauses and, in turn, the server and the sender do. If the results
are read by another thread or task, that is backpressure as it should be. If they are not, waiting would last for
ever, and the sender gets an UnreadResultsError instead.

A stream may take several calls, one after the other: where one breaks, the next sends again what has no answer yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from kniv.client._annotation import ModelReference, Task
from kniv.client._conversion import to_model_reference, to_tasks
from kniv.client._errors import KnivError, ServerError, StreamClosedError, UnreadResultsError
from kniv.client._ledger import Ledger, Verdict
from kniv.client._reconnect import OPENING_ATTEMPTS, Backoff, ConnectionLost, Reconnect, is_break
from kniv.client._records import Response, refusal
from kniv.client._requests import Request
from kniv.v1 import annotation_service_pb2

DEFAULT_MAX_UNREAD_BYTES = 64 * 2**20
MAX_QUEUED_REQUESTS = 64


@dataclass(frozen=True, slots=True)
class Taken:
    """A request taken from the queue; None if it need not be written."""

    request: Request | None


class Exchange:
    """State of a stream. Methods that begin with ``try_`` return None or False where their caller has to wait.

    ``try_take`` and ``try_next_request`` raise EOFError where nothing more comes.
    """

    def __init__(
        self,
        configuration: Request,
        max_unread_bytes: int,
        reconnect: Reconnect | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._configuration = configuration
        self._max_unread_bytes = max_unread_bytes
        self._ledger = Ledger(configuration, reconnect.max_held_bytes) if reconnect else None
        self._backoff = backoff or (Backoff(reconnect) if reconnect else None)
        self._calls = 0
        self._first: deque[Request] = deque()  # what a call sends before it takes from the queue
        self._outgoing: deque[Request] = deque()
        self._incoming: deque[Response] = deque()
        self._unread_bytes = 0
        self._configured: annotation_service_pb2.StreamConfigured | None = None
        self._consumer: object = None
        self._input_closed = False
        self._dormant = False  # the last call has broken, and there is nothing to make another for
        self._ended = False
        self._error: KnivError | None = None

    # The caller's side. ``who`` is the caller's thread or task.

    def try_offer(self, request: Request, who: object) -> bool:
        """Queue a request; False while the queue is full."""
        self._check_open()
        if len(self._outgoing) < MAX_QUEUED_REQUESTS:
            self._outgoing.append(request)
            return True
        if not self.has_space() and self._consumer in (None, who):
            raise UnreadResultsError(
                f"more than {self._max_unread_bytes} bytes of results are unread: iterate over the stream in between,"
                " or in another thread or task"
            )
        return False

    def offer_at_once(self, request: Request) -> None:
        """Queue a request although the queue may be full: for cancellations, which are small and must not wait."""
        self._check_open()
        self._outgoing.append(request)

    def close_input(self) -> None:
        """Nothing more will be offered."""
        self._input_closed = True

    def try_take(self, who: object) -> Response | None:
        """The next result; an error ends the stream after what came before it."""
        self._answer()
        self._consumer = who
        if self._incoming:
            response = self._incoming.popleft()
            self._unread_bytes -= response.ByteSize()
            return response
        if self._error is not None:
            raise self._error
        if self._ended:
            raise EOFError
        return None

    def try_configured(self) -> bool:
        """Whether the server has answered the configuration."""
        if self._error is not None:
            raise self._error
        if self._ended and self._configured is None:
            raise ServerError("the server ended the stream before it answered the configuration")
        return self._configured is not None

    @property
    def model(self) -> ModelReference:
        """The weights that the stream runs on."""
        return to_model_reference(self._answer().model)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the stream runs."""
        return to_tasks(self._answer().tasks)

    # The transport's side.

    @property
    def ended(self) -> bool:
        """Whether no call is made any more."""
        return self._ended

    def begin(self) -> int:
        """A call is about to be made; its number."""
        self._calls += 1
        self._first = deque([self._configuration])
        if self._ledger is not None:
            self._first += self._ledger.replay()
        return self._calls

    def try_next_request(self, call: int) -> Taken | None:
        """Take the next request, to be written to a call."""
        if self._ended or call != self._calls:
            raise EOFError
        if self._first:
            return Taken(self._first.popleft())
        if self._outgoing:
            verdict = Verdict.SEND if self._ledger is None else self._ledger.take(self._outgoing[0])
            if verdict is Verdict.HOLD:
                return None
            request = self._outgoing.popleft()
            if verdict is Verdict.REFUSE:
                self._put([refusal(request)])
            return Taken(request if verdict is Verdict.SEND else None)
        if self._input_closed:
            raise EOFError
        return None

    def has_space(self) -> bool:
        """Whether one more response may be read."""
        return self._ended or self._unread_bytes < self._max_unread_bytes

    def deliver(self, response: Response) -> None:
        """A response was read."""
        match response.WhichOneof("message"):
            case "configured":
                self._configured = response.configured
                if self._backoff is not None and (self._ledger is None or self._ledger.idle):
                    self._backoff.progressed()
            case None:
                pass  # a kind of message that this client is too old to know
            case _ if self._ledger is None:
                self._put([response])
            case _ if (news := self._ledger.receive(response)) is not None:
                self._put([news, *self._ledger.take_losses()])
                if self._backoff is not None:
                    self._backoff.progressed()

    def broke(self, error: KnivError) -> ConnectionLost | None:
        """The call has failed: what to do about it, None if the stream fails with it."""
        if self._ended or self._ledger is None or self._backoff is None or not is_break(error):
            return None
        self._calls += 1  # the failed call's writer may wait still
        delay = self._backoff.delay(error.retry_after_s)
        failures = self._backoff.failures
        if delay is None or (self._configured is None and failures >= OPENING_ATTEMPTS):
            return None
        self._ledger.broke()
        self._put(self._ledger.take_losses())
        return ConnectionLost(error, failures, delay, self._ledger.unanswered)

    def try_resume(self) -> bool:
        """Whether there is something to make another call for, or the stream is over."""
        if not self._ended and self._idle and self._input_closed:
            self.end(None)  # every item has ended; the server only had not said so yet
        if self._idle and not self._ended:
            self._dormant = True
            return False
        if self._dormant and self._backoff is not None:
            self._dormant = False
            self._backoff.wanted()
        return True

    def end(self, error: KnivError | None) -> None:
        """The last call is over; the first end counts."""
        if not self._ended:
            if self._ledger is not None:
                self._put(self._ledger.returned())
            self._ended = True
            self._error = error

    @property
    def _idle(self) -> bool:
        unanswered = self._ledger is not None and not self._ledger.idle
        return self._configured is not None and not self._outgoing and not unanswered

    def _put(self, responses: Iterable[Response]) -> None:
        for response in responses:
            self._incoming.append(response)
            self._unread_bytes += response.ByteSize()

    def _check_open(self) -> None:
        self._answer()
        if self._error is not None:
            raise self._error
        if self._input_closed:
            raise StreamClosedError("the stream is closed for input")
        if self._ended:
            raise StreamClosedError("the server has ended the stream")

    def _answer(self) -> annotation_service_pb2.StreamConfigured:
        if self._configured is None:
            raise StreamClosedError("the stream is not open yet: enter it by 'with' first")
        return self._configured
