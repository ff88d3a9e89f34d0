"""The client for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from kniv.client import _channel, _conversion, _requests
from kniv.client._annotation import Sentence
from kniv.client._credentials import BearerToken
from kniv.client._errors import CallCancelledError, KnivError, from_rpc_error, not_made
from kniv.client._exchange import DEFAULT_MAX_UNREAD_BYTES
from kniv.client._model import ModelInfo
from kniv.client._options import Options, Predicates, StreamOptions, TextInput
from kniv.client._reconnect import DEFAULT_RECONNECT, Reconnect
from kniv.client._stream import Stream
from kniv.v1 import annotation_service_pb2

_Response = TypeVar("_Response")


class Client:
    """Client of a kniv server, for threads; a context manager that closes its connection.

    ``target`` is "host:port", by default that of the environment variable KNIV_TARGET, else localhost:50051. With
    ``credentials`` the connection uses TLS, see :func:`kniv.client.tls_credentials`; ``token`` is sent with every call,
    and in clear only to this machine. Every call has a ``timeout`` in seconds; None waits for ever. Every method
    raises KnivError or what is derived from it. A client may be shared by threads.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: BearerToken | None = None,
    ) -> None:
        address = _channel.resolve_target(target)
        authorization = _channel.authorization_of(token, address, credentials)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=_channel.CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=_channel.CHANNEL_OPTIONS)
        self._stub = _channel.make_stub(self._channel, authorization)
        self._at_close: set[Callable[[], None]] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled, and streams end with a CallCancelledError.

        It takes two seconds at most, even where the other end has stopped reading.
        """
        self._closed = True
        for end in tuple(self._at_close):
            end()
        _channel.close(self._channel)

    def annotate(
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
        (result,) = self.annotate_many([TextInput(text, previous, predicates)], timeout=timeout, **options)
        if isinstance(result, KnivError):
            raise result
        return result

    def annotate_many(
        self,
        texts: Iterable[str | TextInput],
        *,
        timeout: float | None = _channel.DEFAULT_TIMEOUT_S,
        **options: Unpack[Options],
    ) -> list[list[Sentence] | KnivError]:
        """Annotate a few texts in one call: for each its sentences, or, as a value, why it failed."""
        request = _requests.annotate_text(texts, options)
        response = self._invoke(self._stub.AnnotateText, request, timeout)
        return _conversion.to_results(response, len(request.inputs))

    def models(self, *, timeout: float | None = _channel.DEFAULT_TIMEOUT_S) -> list[ModelInfo]:
        """The models that the server knows, by name, without labels and limits."""
        found: list[ModelInfo] = []
        request = annotation_service_pb2.ListModelsRequest()
        while True:
            response = self._invoke(self._stub.ListModels, request, timeout)
            found += map(_conversion.to_model, response.models)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    def model(self, name: str | None = None, *, timeout: float | None = _channel.DEFAULT_TIMEOUT_S) -> ModelInfo:
        """What a model can do; the server's default model if no name is given."""
        request = annotation_service_pb2.GetModelRequest(name=name or "")
        return _conversion.to_model(self._invoke(self._stub.GetModel, request, timeout).model)

    def stream(
        self,
        *,
        timeout: float | None = None,
        max_unread_bytes: int = DEFAULT_MAX_UNREAD_BYTES,
        reconnect: Reconnect | None = DEFAULT_RECONNECT,
        **options: Unpack[StreamOptions],
    ) -> Stream:
        """A stream of turns and documents, to be used in a ``with`` block.

        ``timeout`` is for the whole of it. ``max_unread_bytes`` bounds the results kept for the caller.
        ``reconnect`` says how the stream goes on if the connection breaks; with None it fails then.
        """
        configuration = _requests.stream_configuration(options)
        return Stream(self._open_stream, configuration, max_unread_bytes, timeout, reconnect, self._at_close)

    def _open_stream(self, requests: Iterator[_requests.Request], timeout: float | None) -> Any:
        if self._closed:
            raise CallCancelledError("the client was closed")
        return self._stub.StreamAnnotations(requests, timeout=timeout)

    def _is_serving(self, service: str, timeout: float) -> bool:
        """Whether grpc.health.v1 says so; its messages are too small to depend on a package for them."""
        # HealthCheckRequest has a text as its field 1, and so has GetModelRequest.
        request = annotation_service_pb2.GetModelRequest(name=service).SerializeToString()
        check: Callable[..., bytes] = self._channel.unary_unary("/grpc.health.v1.Health/Check")
        return self._invoke(check, request, timeout) == b"\x08\x01"

    def _invoke(self, method: Callable[..., _Response], request: object, timeout: float | None) -> _Response:
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        except ValueError as error:  # gRPC's, of a closed channel; or of a function that gives the token
            raise (CallCancelledError("the client was closed") if self._closed else not_made(error)) from error
