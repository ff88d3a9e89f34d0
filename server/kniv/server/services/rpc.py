"""What all services of ours share: calls parsed here, their errors as statuses, and both ends of a stream.

Requests are parsed here, not by gRPC, which would answer one that cannot be parsed with UNKNOWN and end a
stream for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any, Generic, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from kniv.server.errors import InvalidRequestError, ServeError, StoppingError
from kniv.server.scheduling.policy import Account
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services.access import visit
from kniv.server.services.status import abort

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Method: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
M = TypeVar("M", bound=Message)


class ClientGoneError(Exception):
    """The call cannot be read from or written to any more."""


class Calls:
    """Counts the calls under way."""

    def __init__(self) -> None:
        self._open = 0
        self._idle = asyncio.Event()

    def counted(self, method: Method) -> Method:
        """The method, counted among the calls under way while it runs."""

        async def run(request: Any, context: Context) -> Any:
            self._open += 1
            try:
                return await method(request, context)
            finally:
                self._open -= 1
                self._idle.set()

        return run

    async def idle(self) -> None:
        """Wait until no call is under way."""
        while self._open:
            self._idle.clear()
            await self._idle.wait()


class Wire(Generic[M]):
    """Both ends of a stream, whose failures all mean the same.

    Args:
        context: the call.
        kind: type of its requests.
        touch: told of each message that has come or gone.
    """

    def __init__(self, context: Context, kind: type[M], touch: Callable[[], None] = lambda: None) -> None:
        self.context, self._kind, self._touch = context, kind, touch
        self._quota = visit().quota

    async def read(self) -> M | None:
        """The next request, None at the client's half-close; not before the caller's rates allow it.

        Raises:
            InvalidRequestError: it cannot be parsed.
            ClientGoneError: nothing can be read any more.
        """
        # Before the message is taken, so that none is lost when the stream ends while it waits.
        await self._quota.pace()
        try:
            content = await self.context.read()
        except Exception as error:
            raise ClientGoneError from error
        self._touch()
        if content is grpc.aio.EOF:
            return None
        self._quota.spend(len(content))
        return parsed(self._kind, content)

    async def write(self, response: bytes) -> None:
        """Put a response on the wire.

        Raises:
            ClientGoneError: nothing can be written any more.
        """
        try:
            await self.context.write(response)
        except Exception as error:
            raise ClientGoneError from error
        self._touch()


async def incoming(
    read: Callable[[], Awaitable[M | None]], draining: asyncio.Event
) -> AsyncGenerator[M | InvalidRequestError]:
    """A stream's requests until the client's half-close; for one that cannot be parsed, its error.

    Args:
        read: see :meth:`Wire.read`.
        draining: set when the server is to stop: nothing more is read then.

    Raises:
        StoppingError: the server stopped reading before the client's half-close.
    """
    stop = asyncio.create_task(draining.wait())
    try:
        while not stop.done():
            request = asyncio.ensure_future(read())
            request.add_done_callback(heard)
            try:
                await asyncio.wait({request, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                request.cancel()
            if not request.done():
                break
            try:
                message = request.result()
            except InvalidRequestError as error:
                yield error
                continue
            if message is None:
                return
            yield message
        raise StoppingError("the server is stopping; send what has no answer yet to another")
    finally:
        stop.cancel()


def heard(work: asyncio.Future[Any]) -> None:
    """Take note of how work ended, so that asyncio does not complain of a failure that came after its stream's end."""
    if not work.cancelled():
        work.exception()


def urgency_of(context: Context, *, patient: bool) -> Urgency:
    """How the rows of a call stand among others: each call is a client of its own, and its deadline theirs.

    What bounds the rows of all calls of its caller is their account.

    Args:
        context: the call.
        patient: whether it waits for room, as streams do, instead of being refused.
    """
    left, bounds = context.time_remaining(), visit().quota.bounds
    bounded = bounds.rows or bounds.bytes
    return Urgency(
        client=object(),
        account=Account(visit().key, bounds.rows, bounds.bytes) if bounded else None,
        deadline=inf if left is None else monotonic() + left,
        patient=patient,
    )


def unary(method: Method, kind: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that parses its request and turns errors into statuses.

    Args:
        method: what answers: with a message, or with one that is serialised already.
        kind: type of the request.
    """

    async def handle(content: bytes, context: Context) -> bytes:
        try:
            visit().quota.admit(len(content))
            response: Message | bytes = await method(parsed(kind, content), context)
            return response if isinstance(response, bytes) else response.SerializeToString()
        except ServeError as error:
            await abort(context, error)

    return grpc.unary_unary_rpc_method_handler(handle)


def parsed(kind: type[M], content: bytes) -> M:
    """A message from its bytes.

    Raises:
        InvalidRequestError: the bytes are no such message.
    """
    try:
        return kind.FromString(content)
    except DecodeError as error:
        problem = "cannot be parsed: it is no protobuf message of its type, or a string in it is no UTF-8"
        raise InvalidRequestError("message", problem) from error
