"""Errors, and the one place where gRPC statuses become them.

KnivError
├── InvalidRequestError      INVALID_ARGUMENT, OUT_OF_RANGE; also raised before anything is sent
├── NotFoundError            NOT_FOUND: no such model, version or variant
├── NotReadyError            FAILED_PRECONDITION: the model is known, but cannot answer now
├── UnavailableError         UNAVAILABLE: no connection, or the server is draining
├── ResourceExhaustedError   RESOURCE_EXHAUSTED: queue full, quota used up, message too big
├── DeadlineExceededError    DEADLINE_EXCEEDED: the timeout passed
├── CallCancelledError       CANCELLED: the call or the item was given up
├── UnauthenticatedError     UNAUTHENTICATED
├── PermissionDeniedError    PERMISSION_DENIED
├── ServerError              INTERNAL and every other status
├── StreamClosedError        something was sent on a stream that takes nothing more
└── UnreadResultsError       something was sent while too many results wait to be read
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError

from kniv.v1 import annotation_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class KnivError(Exception):
    """Base of all errors of this package.

    ``code`` is the name of a gRPC status code; ``retry_after_s`` is the number of seconds after which the server
    invites another try, None where it does not say; ``reason`` is the server's word for programs (ErrorInfo), such as
    ``STREAM_AGE`` or ``TOKEN_INVALID``, empty where it has none.
    """

    code = "UNKNOWN"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after_s: float | None = None, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.retry_after_s = retry_after_s
        self.reason = reason


class InvalidRequestError(KnivError):
    """The request is malformed; the message names the field."""

    code = "INVALID_ARGUMENT"


class NotFoundError(KnivError):
    """There is no such model, version or variant."""

    code = "NOT_FOUND"


class NotReadyError(KnivError):
    """The model is known, but cannot answer now."""

    code = "FAILED_PRECONDITION"


class UnavailableError(KnivError):
    """The server cannot be reached or is draining."""

    code = "UNAVAILABLE"


class ResourceExhaustedError(KnivError):
    """The server's queue is full, a quota is used up, or a message is too big."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceededError(KnivError):
    """The timeout passed."""

    code = "DEADLINE_EXCEEDED"


class CallCancelledError(KnivError):
    """The call or the item was given up."""

    code = "CANCELLED"


class UnauthenticatedError(KnivError):
    """The server does not know the caller."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(KnivError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class ServerError(KnivError):
    """The server failed, or answered something that this client does not understand."""

    code = "INTERNAL"


class StreamClosedError(KnivError):
    """The stream takes nothing more: it was closed, left, or ended by the server."""

    code = "FAILED_PRECONDITION"


class UnreadResultsError(KnivError):
    """Too many results wait to be read, and who sends is also who should read them. Nothing was sent."""

    code = "RESOURCE_EXHAUSTED"


_KINDS: tuple[type[KnivError], ...] = (
    InvalidRequestError,
    NotFoundError,
    NotReadyError,
    UnavailableError,
    ResourceExhaustedError,
    DeadlineExceededError,
    CallCancelledError,
    UnauthenticatedError,
    PermissionDeniedError,
)
_BY_CODE = {kind.code: kind for kind in _KINDS} | {"OUT_OF_RANGE": InvalidRequestError}


def from_status(status: status_pb2.Status) -> KnivError:
    """The error of one text or item."""
    code = _CODE_NAMES.get(status.code, "UNKNOWN")
    return _make(code, status.message, status)


def from_rpc_error(error: grpc.RpcError) -> KnivError:
    """The error of a whole call."""
    metadata: Any = error.trailing_metadata() or ()
    details = next((value for key, value in metadata if key == _DETAILS_KEY), b"")
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        status = status_pb2.Status()  # not ours; code and message say enough
    return _make(error.code().name, error.details() or "", status)


def not_made(failure: Exception) -> KnivError:
    """The error of a call that could not be made, as the function that gives the token failed, say."""
    if isinstance(failure, KnivError):
        return failure
    error = KnivError(f"the call could not be made: {type(failure).__name__}: {failure}", code="UNKNOWN")
    error.__cause__ = failure
    return error


def _make(code: str, message: str, status: status_pb2.Status) -> KnivError:
    kind = _BY_CODE.get(code, ServerError)
    return kind(message or code, code=code, retry_after_s=_retry_after_s(status), reason=reason_of(status))


def _retry_after_s(status: status_pb2.Status) -> float | None:
    for detail in status.details:
        if detail.type_url.endswith("/google.rpc.RetryInfo"):
            # RetryInfo has a Duration as its field 1, and so has Timings: reading it as such saves a dependency.
            delay = annotation_pb2.Timings.FromString(detail.value).queue_duration
            return delay.seconds + delay.nanos * 1e-9
    return None


def reason_of(status: status_pb2.Status) -> str:
    """ErrorInfo's reason; "" if there is none."""
    for detail in status.details:
        if detail.type_url.endswith("/google.rpc.ErrorInfo"):
            # Its field 1 is a text, as LabelScore's is, whose other field has another wire type than ErrorInfo's.
            return annotation_pb2.LabelScore.FromString(detail.value).label
    return ""
