"""One ModelStreamInfer stream: requests run side by side, and their responses go out in the requests' order.

So Triton does for models that answer each request once. What is at fault with one request is said in its
response and costs nobody else anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InferenceError, InvalidRequestError, ServeError, StoppingError
from kniv.server.services.inbox import Inbox
from kniv.server.services.inference.infer import InferenceLimits, Work
from kniv.server.services.rpc import incoming

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Begun:
    """A request that was found good and has no response yet.

    Attributes:
        task: what answers it; None while it waits for room in the stream.
    """

    request: pb.ModelInferRequest
    work: Work
    response: asyncio.Future[bytes]
    task: asyncio.Task[None] | None = None


class InferenceStream:
    """Serves one stream.

    Args:
        admit: reads and checks a request.
        limits: what the stream may have in flight; beyond that nothing more is read.
        read: the next request, None at the client's half-close; raises InvalidRequestError for one that cannot
            be parsed.
        write: puts a serialised response on the wire.
        draining: set when the server is to stop: nothing more is read, and what was read is finished.
    """

    def __init__(
        self,
        admit: Callable[[pb.ModelInferRequest], Awaitable[Work]],
        limits: InferenceLimits,
        read: Callable[[], Awaitable[pb.ModelInferRequest | None]],
        write: Callable[[bytes], Awaitable[None]],
        draining: asyncio.Event,
    ) -> None:
        self._admit, self._read, self._write, self._draining = admit, read, write, draining
        self._flight: Inbox[asyncio.Future[bytes]] = Inbox(limits.requests, limits.response_bytes)
        self._begun: set[_Begun] = set()
        self._denied: ServeError | None = None

    async def run(self) -> bool:
        """Serve until the client has half-closed, or the server drains, and all requests are answered or handed back.

        Returns:
            Whether everything that the client sent has been served.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer())
                reader = group.create_task(self._reader(group))
            return reader.result() and self._denied is None
        finally:
            # A task that was cancelled before it began has released nothing.
            for begun in self._begun:
                begun.work.release()

    def hand_back(self, error: ServeError) -> None:
        """End every request that has no response yet with an error, and likewise what may still come."""
        self._denied = error
        for begun in self._begun:
            if not begun.response.done():
                begun.response.set_result(refusal(begun.request, error))
            if begun.task is not None:
                begun.task.cancel()

    async def _writer(self) -> None:
        while (response := await self._flight.get()) is not None:
            await self._write(await response)

    async def _reader(self, group: asyncio.TaskGroup) -> bool:
        """Begin requests as they come, to the end; whether that was the client's, not the server's."""
        try:
            async with aclosing(incoming(self._read, self._draining)) as requests:
                async for request in requests:
                    await self._begin(request, group)
        except StoppingError:
            return False
        finally:
            await self._flight.close()
        return True

    async def _begin(self, request: pb.ModelInferRequest | InvalidRequestError, group: asyncio.TaskGroup) -> None:
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            if isinstance(request, InvalidRequestError):
                raise request
            work = await self._admit(request)
            if self._denied is not None:
                work.release()
                raise self._denied
        except ServeError as error:
            content = refusal(request, error)
            response.set_result(content)
            await self._flight.put(response, len(content))
            return
        begun = _Begun(request, work, response)
        self._begun.add(begun)
        await self._flight.put(response, request.ByteSize() + work.size)
        if not response.done():
            begun.task = group.create_task(self._answer(begun))

    async def _answer(self, begun: _Begun) -> None:
        try:
            content = await begun.work.answer(in_stream=True)
        except ServeError as error:
            content = refusal(begun.request, error)
        except Exception:
            log.exception("a raw request could not be answered")
            content = refusal(begun.request, InferenceError("internal error; the server's log has it"))
        finally:
            begun.work.release()
            self._begun.discard(begun)
        begun.response.set_result(content)


def refusal(request: pb.ModelInferRequest | InvalidRequestError, error: ServeError) -> bytes:
    """The response that says what is wrong with a request, serialised; it names the request if that could be read."""
    message = pb.ModelStreamInferResponse(error_message=str(error))
    response = message.infer_response
    if isinstance(request, pb.ModelInferRequest):
        response.id, response.model_name = request.id, request.model_name
        response.model_version = request.model_version
    response.parameters["triton_final_response"].bool_param = True
    content: bytes = message.SerializeToString()
    return content
