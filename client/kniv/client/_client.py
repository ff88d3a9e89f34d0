"""The client for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from kniv.client import _channel, _conversion, _requests
from kniv.client._annotation import Sentence
from kniv.client._errors import KnivError, from_rpc_error
from kniv.client._exchange import DEFAULT_MAX_UNREAD_BYTES
from kniv.client._model import ModelInfo
from kniv.client._options import Options, Predicates, StreamOptions, TextInput
from kniv.client._stream import Stream
from kniv.v1 import annotation_service_pb2

_Response = TypeVar("_Response")


class Client:
    """Client of a kniv server, for threads; a context manager that closes its connection.

    ``target`` is "host:port", by default that of the environment variable KNIV_TARGET, else localhost:50051. With
    ``credentials`` the connection uses TLS. Every call has a ``timeout`` in seconds; None waits for ever. Every
    method raises KnivError or what is derived from it. A client may be shared by threads.
    """

    def __init__(self, target: str | None = None, *, credentials: grpc.ChannelCredentials | None = None) -> None:
        address = _channel.resolve_target(target)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=_channel.CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=_channel.CHANNEL_OPTIONS)
        self._stub = _channel.make_stub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

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
        response = _invoke(self._stub.AnnotateText, request, timeout)
        return _conversion.to_results(response, len(request.inputs))

    def models(self, *, timeout: float | None = _channel.DEFAULT_TIMEOUT_S) -> list[ModelInfo]:
        """The models that the server knows, by name, without labels and limits."""
        found: list[ModelInfo] = []
        request = annotation_service_pb2.ListModelsRequest()
        while True:
            response = _invoke(self._stub.ListModels, request, timeout)
            found += map(_conversion.to_model, response.models)
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    def model(self, name: str | None = None, *, timeout: float | None = _channel.DEFAULT_TIMEOUT_S) -> ModelInfo:
        """What a model can do; the server's default model if no name is given."""
        request = annotation_service_pb2.GetModelRequest(name=name or "")
        return _conversion.to_model(_invoke(self._stub.GetModel, request, timeout).model)

    def stream(
        self,
        *,
        timeout: float | None = None,
        max_unread_bytes: int = DEFAULT_MAX_UNREAD_BYTES,
        **options: Unpack[StreamOptions],
    ) -> Stream:
        """A stream of turns and documents, to be used in a ``with`` block.

        ``timeout`` is for the whole of it. ``max_unread_bytes`` bounds the results kept for the caller.
        """
        configuration = _requests.stream_configuration(options)
        return Stream(partial(self._stub.StreamAnnotations, timeout=timeout), configuration, max_unread_bytes)


def _invoke(method: Callable[..., _Response], request: object, timeout: float | None) -> _Response:
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
