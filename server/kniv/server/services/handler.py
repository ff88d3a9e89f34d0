"""A method's handler taken apart and put together again, as interceptors do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_MAKERS: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def behaviour(handler: Handler) -> Any:
    """What a handler does: a function of request and context."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def replaced(handler: Handler, other: Callable[[Any, Any], Any]) -> Handler:
    """The handler with another behaviour."""
    return _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)](
        other,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
