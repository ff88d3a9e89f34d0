"""How a channel is set up; the same for both clients."""

from __future__ import annotations

import json
import os
import threading
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio

from kniv.client._credentials import Authorization, BearerToken
from kniv.v1 import annotation_service_pb2_grpc

DEFAULT_TARGET = "localhost:50051"
DEFAULT_TIMEOUT_S = 30.0
_CLOSE_S = 2.0  # usually it takes a millisecond
_SERVICE = "kniv.v1.AnnotationService"
# DEADLINE_EXCEEDED is never tried again: the answer would come too late. Streams are not tried again at all: what
# the server has taken of them cannot be known here.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE, "method": method} for method in ("AnnotateText", "ListModels", "GetModel")],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                # CANCELLED by the server's end is gRPC's own, of a call that came while the server was closing.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}

CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", 64 * 2**20),
    # Servers allow a ping in 5 minutes unless told otherwise; common balancers forget idle connections after 350 s.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


def make_stub(channel: grpc.Channel | grpc.aio.Channel, authorization: Authorization | None) -> Any:
    """The service's methods, which send the token if there is one; the generated class has no types."""
    stub_class: Any = annotation_service_pb2_grpc.AnnotationServiceStub
    stub = stub_class(channel)
    if authorization is None:
        return stub
    return SimpleNamespace(**{name: authorization.added_to(method) for name, method in vars(stub).items()})


def authorization_of(
    token: BearerToken | None, target: str, credentials: grpc.ChannelCredentials | None
) -> Authorization | None:
    """What adds the token to calls."""
    return None if token is None else Authorization(token, target, secure=credentials is not None)


def resolve_target(target: str | None) -> str:
    """The target given, else that of the environment variable KNIV_TARGET, else localhost:50051."""
    return target or os.environ.get("KNIV_TARGET") or DEFAULT_TARGET


def close(channel: grpc.Channel) -> None:
    """Cancel a channel's calls and close it, for the most part behind the caller's back if that takes long.

    gRPC gives a cancelled call's messages back only once the network has taken those that it is writing. A peer that
    has stopped reading takes nothing, and is noticed in seconds or minutes, if keepalive is off never.
    """
    closing = threading.Thread(target=channel.close, name="kniv-close", daemon=True)
    closing.start()
    closing.join(_CLOSE_S)
