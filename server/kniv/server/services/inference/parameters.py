"""Names, versions and parameters of requests, of the types and values that they may have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, UnsupportedError, shown
from kniv.server.repository.config import Batching

_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_KNOWN = ("variant", "priority", "timeout", "triton_enable_empty_final_response")
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_MOST_MICROSECONDS = 1 << 53


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request's parameters ask for.

    Attributes:
        variant: the model's variant; empty for the default one.
        priority: level, 1 is served first; 0 for the model's default.
        timeout: seconds within which an answer is wanted; 0 for no limit.
    """

    variant: str = ""
    priority: int = 0
    timeout: float = 0.0

    def level(self, batching: Batching) -> int:
        """The priority level in a model.

        Raises:
            InvalidRequestError: the model has no such level.
        """
        if self.priority > batching.levels:
            problem = f"must be from 1 (first) to {batching.levels}, the model's priority_levels, or 0 for its default"
            raise InvalidRequestError("parameters['priority']", problem)
        return self.priority or batching.default_level


def wishes_of(message: pb.ModelInferRequest) -> Wishes:
    """Read a request's parameters.

    Raises:
        InvalidRequestError: a parameter is unknown, or has another type or value than it may.
        UnsupportedError: the request is one of a sequence.
    """
    given = message.parameters
    for name in sorted(given):
        if name in _SEQUENCE:
            raise UnsupportedError(f"parameters['{name}']: a cascade keeps no state, so that there are no sequences")
        if name not in _KNOWN:
            known = ", ".join(_KNOWN)
            raise InvalidRequestError("parameters", f"no parameter {shown(name)} is known here; there are: {known}")
    flag = given.get("triton_enable_empty_final_response")
    if flag is not None and flag.WhichOneof("parameter_choice") != "bool_param":
        raise InvalidRequestError("parameters['triton_enable_empty_final_response']", "must be a bool_param")
    variant = given.get("variant")
    if variant is not None and not variant.string_param:
        raise InvalidRequestError("parameters['variant']", "must be a string_param that names a variant")
    return Wishes(
        variant="" if variant is None else variant.string_param,
        priority=_whole(given, "priority"),
        timeout=_whole(given, "timeout") * 1e-6,
    )


def named(name: str, field: str) -> str:
    """The name of a model, which must not be empty.

    Raises:
        InvalidRequestError: it is.
    """
    if not name:
        raise InvalidRequestError(field, "empty; a model must be named")
    return name


def version_of(text: str, field: str) -> int:
    """A version's number; 0, for the newest, if the text is empty.

    Raises:
        InvalidRequestError: it is no number.
    """
    if text and not _VERSION.fullmatch(text):
        raise InvalidRequestError(field, f"must be a version's number, or empty for the newest, not {shown(text)}")
    return int(text or 0)


def _whole(given: Any, name: str) -> int:
    if name not in given:
        return 0
    chosen = given[name].WhichOneof("parameter_choice")
    if chosen not in ("int64_param", "uint64_param"):
        raise InvalidRequestError(f"parameters['{name}']", "must be an int64_param or a uint64_param")
    value: int = getattr(given[name], chosen)
    if not 0 <= value <= _MOST_MICROSECONDS:
        raise InvalidRequestError(f"parameters['{name}']", f"must be from 0 to {_MOST_MICROSECONDS}")
    return value
