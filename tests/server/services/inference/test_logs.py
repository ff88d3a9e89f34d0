from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, UnsupportedError
from kniv.server.services.inference.logs import change_log_settings, log_settings


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    logger = logging.getLogger("kniv")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


def change(**values: Any) -> None:
    kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    request = pb.LogSettingsRequest()
    for name, value in values.items():
        setattr(request.settings[name], kinds[type(value)], value)
    change_log_settings(request)


def now() -> dict[str, Any]:
    settings = log_settings().settings
    return {name: getattr(settings[name], settings[name].WhichOneof("parameter_choice")) for name in settings}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"log_verbose_level": 1}, logging.DEBUG),
        ({"log_verbose_level": 9}, logging.DEBUG),
        ({"log_info": False}, logging.WARNING),
        ({"log_info": False, "log_warning": False}, logging.ERROR),
        ({"log_info": False, "log_warning": False, "log_error": False}, logging.CRITICAL + 1),
        ({"log_file": "", "log_format": "default"}, logging.INFO),
        ({}, logging.INFO),
    ],
)
def test_the_switches_set_the_level(values: dict[str, Any], expected: int) -> None:
    change(**values)
    assert logging.getLogger("kniv").level == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["log_info", "log_warning", "log_error"]), st.booleans()),
    st.integers(0, 1) | st.none(),
)
def test_what_was_set_is_what_is_told(switches: dict[str, bool], verbose: int | None) -> None:
    values: dict[str, Any] = {**switches} if verbose is None else {**switches, "log_verbose_level": verbose}
    before = now()
    try:
        change(**values)
    except InvalidRequestError as error:
        assert "a less severe level is on" in str(error)
        assert now() == before
    else:
        assert now() == {**before, **values}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"log_warning": False}, "log_warning"),
        ({"log_info": False, "log_verbose_level": 1}, "log_info"),
        ({"log_info": 1}, "log_info"),
        ({"log_verbose_level": True}, "log_verbose_level"),
        ({"log_colour": True}, "log_colour"),
    ],
)
def test_a_setting_at_fault_is_named(values: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"'{name}'"):
        change(**values)


@pytest.mark.parametrize("values", [{"log_file": "server.log"}, {"log_format": "ISO8601"}])
def test_where_logs_go_is_not_for_callers(values: dict[str, str]) -> None:
    with pytest.raises(UnsupportedError, match="standard error"):
        change(**values)
