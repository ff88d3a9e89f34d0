"""TraceSetting: how many of the calls are traced; where the traces go is the server's settings' matter."""

from __future__ import annotations

from typing import Protocol

from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, UnsupportedError, shown

_LEVEL, _RATE, _MODE = "trace_level", "trace_rate", "trace_mode"
_ON, _OFF = "TIMESTAMPS", "OFF"
_OPENTELEMETRY = "opentelemetry"
_RAREST = (1 << 31) - 1


class Sampling(Protocol):
    """Which part of the calls is traced where the caller has not decided already."""

    ratio: float


class Tracing:
    """Reads and changes what part of the calls is traced, in Triton's terms: level, and one of how many.

    Args:
        sampling: of traces; None if none are made.
    """

    def __init__(self, sampling: Sampling | None) -> None:
        self._sampling = sampling
        self._rate = _rate(sampling.ratio) if sampling is not None else 1

    def settings(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Answer a request; what it does not name stays.

        Raises:
            UnsupportedError: traces are not made here, or the request changes more than level and rate of all models.
            InvalidRequestError: a setting is unknown or has no value that can be had.
        """
        if request.settings:
            self._change(request)
        response = pb.TraceSettingResponse()
        on = self._sampling is not None and self._sampling.ratio > 0
        response.settings[_LEVEL].value.append(_ON if on else _OFF)
        if self._sampling is not None:
            rate = _rate(self._sampling.ratio) if on else self._rate
            response.settings[_RATE].value.append(str(rate))
            response.settings[_MODE].value.append(_OPENTELEMETRY)
        return response

    def _change(self, request: pb.TraceSettingRequest) -> None:
        if self._sampling is None:
            raise UnsupportedError("settings: traces are made only by a server that is started with --otlp-endpoint")
        if request.model_name:
            raise UnsupportedError("model_name: traces are set for all models together; leave the name empty")
        on, rate = self._sampling.ratio > 0, 0
        for name in sorted(request.settings):
            values = list(request.settings[name].value)
            field = f"settings['{name}']"
            if name == _LEVEL:
                if values not in ([_ON], [_OFF]):
                    raise InvalidRequestError(field, f"must be {_ON} or {_OFF}")
                on = values == [_ON]
            elif name == _RATE:
                rate = _number(values, field)
            elif name == _MODE:
                if values != [_OPENTELEMETRY]:
                    raise UnsupportedError(f"{field}: there is {_OPENTELEMETRY} only")
            else:
                known = ", ".join((_LEVEL, _RATE, _MODE))
                raise InvalidRequestError("settings", f"no setting {shown(name)} is known here; there are: {known}")
        if not on:
            self._rate, self._sampling.ratio = rate or self._rate, 0.0
        elif rate or not self._sampling.ratio:
            self._rate = rate or self._rate
            self._sampling.ratio = 1 / self._rate


def _rate(ratio: float) -> int:
    """One call in how many."""
    return max(1, round(1 / max(ratio, 1 / _RAREST))) if ratio else 1


def _number(values: list[str], field: str) -> int:
    text = values[0] if len(values) == 1 else ""
    if not (text.isascii() and text.isdigit() and len(text) < 11 and 0 < int(text) <= _RAREST):
        raise InvalidRequestError(field, "must be a positive number: one call in so many is traced")
    return int(text)
