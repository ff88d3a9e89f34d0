"""The gRPC status of each error, chosen here and nowhere else."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from kniv.server.errors import (
    ConflictError,
    DeadlineError,
    DeniedError,
    ForbiddenError,
    InferenceError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    RepositoryError,
    ServeError,
    StoppingError,
    StreamOverError,
    UnavailableError,
    UnsupportedError,
)
from kniv.v1 import status_pb2 as kniv_status

_DOMAIN = "kniv.v1"

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_CODES: tuple[tuple[type[ServeError], int], ...] = (
    (InvalidRequestError, code_pb2.INVALID_ARGUMENT),
    (NotFoundError, code_pb2.NOT_FOUND),
    (ConflictError, code_pb2.ALREADY_EXISTS),
    (NotReadyError, code_pb2.FAILED_PRECONDITION),
    (NotAllowedError, code_pb2.FAILED_PRECONDITION),
    # The caller is unknown, whether it brought no token or a wrong one; PERMISSION_DENIED is for known ones.
    (DeniedError, code_pb2.UNAUTHENTICATED),
    (ForbiddenError, code_pb2.PERMISSION_DENIED),
    (UnsupportedError, code_pb2.UNIMPLEMENTED),
    # Asked to load what is broken on disk: of no use to repeat before somebody has mended it.
    (RepositoryError, code_pb2.FAILED_PRECONDITION),
    (OverloadedError, code_pb2.RESOURCE_EXHAUSTED),
    (DeadlineError, code_pb2.DEADLINE_EXCEEDED),
    (StoppingError, code_pb2.UNAVAILABLE),
    (UnavailableError, code_pb2.UNAVAILABLE),
    (InferenceError, code_pb2.INTERNAL),
)


def rpc_status(error: ServeError) -> status_pb2.Status:
    """The error as google.rpc.Status, with details: the field at fault, or when to come back and why."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    status = status_pb2.Status(code=code, message=str(error))
    if isinstance(error, InvalidRequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.problem)
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if isinstance(error, OverloadedError | UnavailableError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after * 1e9))
        status.details.append(_packed(retry))
    if reason := reason_of(error):
        told = {"grant": error.grant} if isinstance(error, ForbiddenError) else {}
        status.details.append(_packed(error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN, metadata=told)))
    return status


def reason_of(error: BaseException | None) -> str:
    """ErrorInfo's reason of an error; "" for one that has none."""
    if isinstance(error, OverloadedError):
        return error.reason.upper()
    if isinstance(error, DeniedError | StreamOverError):
        return error.reason
    if isinstance(error, StoppingError):
        return "STOPPING"  # what it ends was handed back: the SDK's streams carry it to the next server
    return "GRANT_MISSING" if isinstance(error, ForbiddenError) else ""


def cause_of(ended: BaseException) -> BaseException | None:
    """The error behind the end of a call: what :func:`abort` was given, or the exception itself."""
    return ended.__context__ if isinstance(ended, grpc.aio.AbortError) else ended


def _packed(message: Message) -> AnyMessage:
    detail = AnyMessage()
    detail.Pack(message)
    return detail


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: ServeError) -> NoReturn:
    """End a call with the status of an error and its details."""
    status = rpc_status(error)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(_BY_NUMBER[status.code], status.message, details)
    raise AssertionError("abort returned")


def item_status(error: ServeError) -> kniv_status.Status:
    """The error as the wire contract's own Status, which has google.rpc.Status's layout."""
    return kniv_status.Status.FromString(rpc_status(error).SerializeToString())
