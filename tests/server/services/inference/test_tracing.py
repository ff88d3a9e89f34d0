from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, ServeError, UnsupportedError
from kniv.server.services.inference.tracing import Tracing


def ask(tracing: Tracing, model: str = "", **values: str) -> dict[str, str]:
    request = pb.TraceSettingRequest(model_name=model)
    for name, value in values.items():
        request.settings[name].value.append(value)
    told = tracing.settings(request).settings
    return {name: told[name].value[0] for name in told}


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "trace_level": st.sampled_from(["OFF", "TIMESTAMPS"]),
        "trace_rate": st.integers(1, 10_000).map(str),
        "trace_mode": st.just("opentelemetry"),
    },
)


@given(st.floats(0, 1), st.lists(CHANGES))
def test_what_was_set_is_what_is_told(ratio: float, changes: list[dict[str, str]]) -> None:
    sampling = SimpleNamespace(ratio=ratio)
    tracing = Tracing(sampling)
    for change in changes:
        before = ask(tracing)
        assert ask(tracing, **change) == {**before, **change}
        assert (sampling.ratio == 0) == (ask(tracing)["trace_level"] == "OFF")
        if change.get("trace_level", before["trace_level"]) == "TIMESTAMPS" and "trace_rate" in change:
            assert sampling.ratio == 1 / int(change["trace_rate"])


def test_nothing_is_traced_without_a_collector() -> None:
    tracing = Tracing(None)
    assert ask(tracing) == {"trace_level": "OFF"}
    with pytest.raises(UnsupportedError, match="--otlp-endpoint"):
        ask(tracing, trace_level="TIMESTAMPS")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"trace_level": "TENSORS"}, InvalidRequestError),
        ({"trace_rate": "0"}, InvalidRequestError),
        ({"trace_rate": "many"}, InvalidRequestError),
        ({"trace_file": "/tmp/trace"}, InvalidRequestError),
        ({"trace_mode": "triton"}, UnsupportedError),
        ({"trace_level": "OFF", "model": "m"}, UnsupportedError),
    ],
)
def test_a_setting_at_fault_changes_nothing(change: dict[str, str], error: type[ServeError]) -> None:
    sampling = SimpleNamespace(ratio=0.5)
    with pytest.raises(error):
        ask(Tracing(sampling), **change)
    assert sampling.ratio == 0.5
