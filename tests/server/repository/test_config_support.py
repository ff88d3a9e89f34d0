from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format, text_format
from google.protobuf.descriptor import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.repository.configs import configurations
from tritonclient.grpc import model_config_pb2

from kniv.server.errors import RepositoryError
from kniv.server.repository.config import config_from_json, parse_config
from kniv.server.repository.config_runtime import CUDA_OPTIONS, PARAMETERS
from kniv.server.repository.config_support import SUPPORT
from kniv.server.repository.config_text import map_value

PAGE = Path(__file__).resolve().parents[3] / "docs" / "repository.md"
PATH = Path("m/config.pbtxt")


def fields(descriptor: Descriptor, above: str = "") -> Iterator[str]:
    """Dotted paths of all fields of a message and of the messages in it."""
    for field in descriptor.fields:
        path = above + field.name
        yield path
        held = map_value(field) or field
        if held.message_type is not None:
            yield from fields(held.message_type, f"{path}.")


FIELDS = list(fields(model_config_pb2.ModelConfig.DESCRIPTOR))


def refused_with(path: str) -> str:
    """The field itself or the message around it that is not supported; empty if there is none."""
    parts = path.split(".")
    above = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((name for name in above if name in SUPPORT and not SUPPORT[name].has_effect), "")


def test_every_field_of_the_protocol_is_in_the_table() -> None:
    missing = [path for path in FIELDS if path not in SUPPORT and not refused_with(path)]
    assert not missing, "tritonclient has fields that config_support.py does not classify"
    assert not set(SUPPORT) - set(FIELDS), "config_support.py has fields that tritonclient does not have"


def rows() -> list[str]:
    """The rows of the documentation's table, one for each field or, for all fields of one that is refused, one."""
    table = []
    for path, support in SUPPORT.items():
        inner = [name.removeprefix(f"{path}.") for name in FIELDS if name.startswith(f"{path}.")]
        with_all = (
            f", with all in it: {', '.join(f'`{name}`' for name in inner)}" if not support.has_effect and inner else ""
        )
        table.append(f"| `{path}`{with_all} | {'yes' if support.has_effect else 'no'} | {support.note} |")
    return table


def test_the_documentation_has_the_table() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Every field\n")[2].partition("\n## ")[0]
    written = [line for line in section.split("\n") if line.startswith("| `")]
    assert written == rows()


@pytest.mark.parametrize("options", [PARAMETERS, CUDA_OPTIONS])
def test_the_documentation_has_every_option(options: dict[str, object]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in options if f"| `{name}` |" not in page] == []


REFUSED = [path for path in FIELDS if path in SUPPORT and not SUPPORT[path].has_effect]


@pytest.mark.parametrize("path", REFUSED)
def test_a_field_that_is_not_supported_is_refused_by_its_name(path: str) -> None:
    message = model_config_pb2.ModelConfig()
    target, descriptor = message, message.DESCRIPTOR
    *above, last = path.split(".")
    for name in above:
        held = getattr(target, name)
        target = held.add() if descriptor.fields_by_name[name].is_repeated else held
        descriptor = target.DESCRIPTOR
    field = descriptor.fields_by_name[last]
    if map_value(field) is not None:
        getattr(target, last)["a"] = "b"
    elif field.message_type is not None:
        held = getattr(target, last)
        held.add() if field.is_repeated else held.SetInParent()
    elif field.is_repeated:
        getattr(target, last).append("a" if field.type == field.TYPE_STRING else 1)
    else:
        setattr(target, last, "a" if field.type == field.TYPE_STRING else 1)
    with pytest.raises(RepositoryError) as caught:
        parse_config(text_format.MessageToString(message), PATH, "m")
    told = caught.value.problem
    assert told.startswith("line ")
    assert f"{last}: is not supported" in told
    assert SUPPORT[path].note in told


@given(configurations())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_text_and_json_say_the_same(message: model_config_pb2.ModelConfig) -> None:
    from_text = parse_config(text_format.MessageToString(message), PATH, "m")
    pointed = text_format.MessageToString(message, pointy_brackets=True, use_short_repeated_primitives=True)
    assert parse_config(pointed, PATH, "m") == from_text
    assert parse_config(text_format.MessageToString(message, as_one_line=True), PATH, "m") == from_text
    said = json_format.MessageToJson(message, preserving_proto_field_name=True)
    assert config_from_json(said, "m") == from_text


_PIECES = st.sampled_from(
    [
        *"{}[]<>:,;#\n\"'\\-",
        "key",
        "value",
        "name",
        "0",
        "-1",
        "1e9",
        "0x",
        "\\377",
        "[a.b]",
        "é",
        "\0",
        "parameters",
        "inputs",
    ]
)


# protobuf's text format decodes escapes with Python's own codec, which warns of unknown ones.
@pytest.mark.filterwarnings("ignore:.*unicode_escape.*:DeprecationWarning")
@given(configurations(), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_broken_text_is_never_more_than_an_error_of_the_repository(
    message: model_config_pb2.ModelConfig, data: st.DataObject
) -> None:
    text = text_format.MessageToString(message)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 20, len(text))))
        text = text[:start] + data.draw(st.one_of(_PIECES, st.text(max_size=3))) + text[end:]
    try:
        parse_config(text, PATH, "m")
    except RepositoryError as error:
        assert error.path == PATH
        line = int(error.problem.removeprefix("line ").partition(":")[0])
        assert 1 <= line <= text.count("\n") + 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner),
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_json_of_any_shape_is_never_more_than_an_error_of_the_repository(value: object) -> None:
    try:
        config_from_json(json.dumps(value), "m")
    except RepositoryError as error:
        assert "configuration given for model m" in str(error)


def test_the_line_is_that_of_the_field_however_it_is_written() -> None:
    text = """# dynamic_batching { priority_levels: 9
    dynamic_batching: < # }
      priority_levels: 2 ; default_priority_level
      :
      3
    >
    parameters: [ { key: "cpu_fallback", value: { string_value: 'no' "pe" } } ]
    """
    with pytest.raises(RepositoryError, match=r"line 3: dynamic_batching\.default_priority_level: "):
        parse_config(text, PATH, "m")
    with pytest.raises(RepositoryError, match=r'line 7: parameters\["cpu_fallback"\]\.string_value: .* not \'nope\''):
        parse_config(text.replace("3\n", "2\n"), PATH, "m")
