"""The client for asyncio."""

# ruff: noqa: ASYNC109 - a timeout given to gRPC is known to the server, one put around the call is not

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import grpc.aio

from kniv.client import _channel, _conversion, _requests
from kniv.client._annotation import Sentence
from kniv.client._async_stream import AsyncStream
from kniv.client._credentials import BearerToken
from kniv.client._errors import CallCancelledError, KnivError, from_rpc_error
from kniv.client._exchange import DEFAULT_MAX_UNREAD_BYTES
from kniv.client._model import ModelInfo
from kniv.client._options import Options, Predicates, StreamOptions, TextInput
from kniv.client._reconnect import DEFAULT_RECONNECT, Reconnect
from kniv.v1 import annotation_service_pb2

_Response = TypeVar("_Response")


class AsyncClient:
    """Client of a kniv server, for asyncio; an asynchronous context manager that closes its connection.

    ``target`` is "host:port", by default that of the environment variable KNIV_TARGET, else localhost:50051. With
    ``credentials`` the connection uses TLS, see :func:`kniv.client.tls_credentials`; ``token`` is sent with every call,
    and in clear only to this machine. Every call has a ``timeout`` in seconds; None waits for ever. Every method
    raises KnivError or what is derived from it. A client belongs to the event loop of its first call.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: BearerToken | None = None,
    ) -> None:
        self._target = _channel.resolve_target(target)
        self._credentials = credentials
        self._authorization = _channel.authorization_of(token, self._target, credentials)
        self._channel: grpc.aio.Channel | None = None
        self._connected_stub: Any = None
        self._at_close: set[Callable[[], None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled, and streams end with a CallCancelledError."""
        self._closed = True
        for end in tuple(self._at_close):
            end()
        if self._channel is not None:
            await self._channel.close()

    async def annotate(
        self,
        text: str,
        *,
        previous: str | None = None,
        predicates: Predicates = (),
        timeout: float | None = _channel.DEFAULT_TIMEOUT_S,
        **options: Unpack[Options],
    ) -> list[Sentence]:
        """Annotate a text: its sentences in order.

        ``previous`` is the turn before, where the text answers one. ``predicates`` are the words to find frames for;
        every verb if empty.
        """
        (result,) = await self.annotate_many([TextInput(text, previous, predicates)], timeout=timeout, **options)
        if isinstance(result, KnivError):
            raise result
        return result

    async def annotate_many(
        self,
        texts: Iterable[str | TextInput],
        *,
        timeout: float | None = _channel.DEFAULT_TIMEOUT_S,
        **options: Unpack[Options],
    ) -> list[list[Sentence] | KnivError]:
        """Annotate a few texts in one call: for each its sentences, or, as a value, why it failed."""
        request = _requests.annotate_text(texts, options)
        response = await self._invoke(self._stub().AnnotateText, request, timeout)
        return _conversion.to_results(response, len(request.inputs))

    async def models(self, *, timeout: float | None = _channel.DEFAULT_TIMEOUT_S) -> list[ModelInfo]:
        """The models that the server knows, by name, without labels and limits."""
        found: list[ModelInfo] = []
        request = annotation_service_pb2.ListModelsRequest()
        while True:
            response = await self._invoke(self._stub().ListModels, request, timeout)
            found += map(_conversion.to_model, response.models)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    async def model(self, name: str | None = None, *, timeout: float | None = _channel.DEFAULT_TIMEOUT_S) -> ModelInfo:
        """What a model can do; the server's default model if no name is given."""
        request = annotation_service_pb2.GetModelRequest(name=name or "")
        return _conversion.to_model((await self._invoke(self._stub().GetModel, request, timeout)).model)

    def stream(
        self,
        *,
        timeout: float | None = None,
        max_unread_bytes: int = DEFAULT_MAX_UNREAD_BYTES,
        reconnect: Reconnect | None = DEFAULT_RECONNECT,
        **options: Unpack[StreamOptions],
    ) -> AsyncStream:
        """A stream of turns and documents, to be used in an ``async with`` block.

        ``timeout`` is for the whole of it. ``max_unread_bytes`` bounds the results kept for the caller.
        ``reconnect`` says how the stream goes on if the connection breaks; with None it fails then.
        """
        configuration = _requests.stream_configuration(options)
        return AsyncStream(self._open_stream, configuration, max_unread_bytes, timeout, reconnect, self._at_close)

    def _open_stream(self, requests: AsyncIterable[_requests.Request], timeout: float | None) -> Any:
        return self._stub().StreamAnnotations(requests, timeout=timeout)

    def _stub(self) -> Any:
        if self._closed:
            raise CallCancelledError("the client was closed")
        # A channel belongs to the event loop that runs when it is made, and clients are often made before any runs.
        if self._channel is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._target, options=_channel.CHANNEL_OPTIONS)
            else:
                self._channel = grpc.aio.secure_channel(
                    self._target, self._credentials, options=_channel.CHANNEL_OPTIONS
                )
            self._connected_stub = _channel.make_stub(self._channel, self._authorization)
        return self._connected_stub

    async def _invoke(
        self, method: Callable[..., Awaitable[_Response]], request: object, timeout: float | None
    ) -> _Response:
        try:
            return await method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError as error:
            # The call was, not this task: a task group would take the task for one that somebody gave up.
            if self._closed and (task := asyncio.current_task()) is not None and not task.cancelling():
                raise CallCancelledError("the client was closed") from error
            raise
