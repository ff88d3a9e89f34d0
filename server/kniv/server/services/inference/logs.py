"""LogSettings.

Triton switches its levels one by one; here, as in Python's logging, a level brings all the more severe ones.
"""

from __future__ import annotations

import logging

from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, UnsupportedError, shown

# Triton's switches, and the level that each lets through; the most severe one first.
_SWITCHES = {"log_error": logging.ERROR, "log_warning": logging.WARNING, "log_info": logging.INFO}
_VERBOSE = "log_verbose_level"
_FIXED = {"log_file": "", "log_format": "default"}
_SILENT = logging.CRITICAL + 1

_logger = logging.getLogger("kniv")


def log_settings() -> pb.LogSettingsResponse:
    """What is logged now."""
    level, response = _logger.getEffectiveLevel(), pb.LogSettingsResponse()
    for name, text in _FIXED.items():
        response.settings[name].string_param = text
    for name, least in _SWITCHES.items():
        response.settings[name].bool_param = level <= least
    response.settings[_VERBOSE].uint32_param = int(level <= logging.DEBUG)
    return response


def change_log_settings(request: pb.LogSettingsRequest) -> None:
    """Change what is logged; what the request does not name stays.

    Raises:
        InvalidRequestError: a setting is unknown, has a value of another type, or a level would be off that a
            less severe one brings.
        UnsupportedError: file or format were to change.
    """
    now = log_settings().settings
    on = {name: now[name].bool_param for name in _SWITCHES}
    verbose = now[_VERBOSE].uint32_param > 0
    for name in sorted(request.settings):
        value = request.settings[name]
        if name in _FIXED:
            if value.string_param != _FIXED[name]:
                raise UnsupportedError(f"settings['{name}']: logs go to standard error, in one format")
        elif name in _SWITCHES:
            _expect(name, value, "bool_param")
            on[name] = value.bool_param
        elif name == _VERBOSE:
            _expect(name, value, "uint32_param")
            verbose = value.uint32_param > 0
        else:
            known = ", ".join((*_FIXED, *_SWITCHES, _VERBOSE))
            raise InvalidRequestError("settings", f"no setting {shown(name)} is known here; there are: {known}")
    wanted = [*on.values(), verbose]
    if wanted != sorted(wanted, reverse=True):
        off = next(name for name, switched in on.items() if not switched)
        raise InvalidRequestError(
            f"settings['{off}']", "a less severe level is on, which brings it; switch that off too"
        )
    level = min((least for name, least in _SWITCHES.items() if on[name]), default=_SILENT)
    _logger.setLevel(logging.DEBUG if verbose else level)


def _expect(name: str, value: pb.LogSettingsRequest.SettingValue, kind: str) -> None:
    if value.WhichOneof("parameter_choice") != kind:
        raise InvalidRequestError(f"settings['{name}']", f"must be a {kind}")
