"""The two buffers of a stream and the rules between them: no I/O, no locks, the same for both clients.

A gRPC write waits once the server has about 64 KB that it has not read, and a server that may not write stops
reading. So somebody must always read: a thread or task takes in results while the caller sends. Both buffers are
bounded. When the results' one is full, the reader pauses and, in turn, the server and the sender do. If the results
are read by another thread or task, that is backpressure as it should be. If they are not, waiting would last for
ever, and the sender gets an UnreadResultsError instead.
"""

from __future__ import annotations

from collections import deque

from kniv.client._annotation import ModelReference, Task
from kniv.client._conversion import to_model_reference, to_tasks
from kniv.client._errors import KnivError, ServerError, StreamClosedError, UnreadResultsError
from kniv.client._requests import Request
from kniv.v1 import annotation_service_pb2

DEFAULT_MAX_UNREAD_BYTES = 64 * 2**20
MAX_QUEUED_REQUESTS = 64
Response = annotation_service_pb2.StreamAnnotationsResponse


class Exchange:
    """State of a stream. Methods that begin with ``try_`` return None or False where their caller has to wait.

    ``try_take`` and ``try_next_request`` raise EOFError where nothing more comes.
    """

    def __init__(self, configuration: Request, max_unread_bytes: int) -> None:
        self._max_unread_bytes = max_unread_bytes
        self._outgoing: deque[Request] = deque([configuration])
        self._incoming: deque[Response] = deque()
        self._unread_bytes = 0
        self._configured: annotation_service_pb2.StreamConfigured | None = None
        self._consumer: object = None
        self._input_closed = False
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

    def try_next_request(self) -> Request | None:
        """The next request to write."""
        if self._ended:
            raise EOFError
        if self._outgoing:
            return self._outgoing.popleft()
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
            case None:
                pass  # a kind of message that this client is too old to know
            case _:
                self._incoming.append(response)
                self._unread_bytes += response.ByteSize()

    def end(self, error: KnivError | None) -> None:
        """The call is over; the first end counts."""
        if not self._ended:
            self._ended = True
            self._error = error

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
