from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, UnsupportedError
from kniv.server.repository.config import Batching
from kniv.server.services.inference.parameters import Wishes, named, version_of, wishes_of

BATCHING = Batching(0.0, 3, 2, MappingProxyType({}))


def request(**parameters: Mapping[str, Any]) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(parameters={name: pb.InferParameter(**value) for name, value in parameters.items()})


def test_what_a_request_may_wish_for() -> None:
    given = request(
        variant={"string_param": "fp32"},
        priority={"uint64_param": 3},
        timeout={"int64_param": 250_000},
        triton_enable_empty_final_response={"bool_param": True},
    )
    assert wishes_of(given) == Wishes("fp32", 3, 0.25)
    assert wishes_of(request()) == Wishes()
    assert wishes_of(request(priority={"int64_param": 1})) == Wishes(priority=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("variant", {"int64_param": 1}),
        ("variant", {"string_param": ""}),
        ("varient", {"string_param": "fp32"}),
        ("priority", {"string_param": "high"}),
        ("priority", {"int64_param": -1}),
        ("priority", {}),
        ("timeout", {"double_param": 0.5}),
        ("timeout", {"int64_param": -5}),
        ("timeout", {"uint64_param": (1 << 64) - 1}),
        ("triton_enable_empty_final_response", {"string_param": "yes"}),
    ],
)
def test_a_parameter_at_fault_is_named(name: str, value: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=f"'{name}'"):
        wishes_of(request(**{name: value}))


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "sequence_end"])
def test_sequences_are_not_served(name: str) -> None:
    with pytest.raises(UnsupportedError, match="keeps no state"):
        wishes_of(request(**{name: {"int64_param": 7}}))


@given(st.integers(0, 100))
def test_a_level_is_the_models(priority: int) -> None:
    wishes = Wishes(priority=priority)
    if priority <= 3:
        assert wishes.level(BATCHING) == (priority or 2)
    else:
        with pytest.raises(InvalidRequestError, match="1 \\(first\\) to 3"):
            wishes.level(BATCHING)


@pytest.mark.parametrize(("text", "number"), [("", 0), ("1", 1), ("20260101", 20260101)])
def test_versions(text: str, number: int) -> None:
    assert version_of(text, "version") == number


@pytest.mark.parametrize("text", ["0", "01", "-1", "+1", "1.0", "newest", " 1", "1\n", "١", "9" * 5000])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="model_version: must be a version's number"):
        version_of(text, "model_version")


def test_a_model_must_be_named() -> None:
    assert named("m", "model_name") == "m"
    with pytest.raises(InvalidRequestError, match="model_name: empty"):
        named("", "model_name")
