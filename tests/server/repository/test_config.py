from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kniv.server.errors import RepositoryError
from kniv.server.repository.config import (
    Batching,
    ModelConfig,
    Placement,
    QueuePolicy,
    RuntimeOptions,
    WarmupInput,
    WarmupSample,
    config_from_json,
    load_config,
    parse_config,
)
from kniv.server.repository.layout import VersionFiles

PATH = Path("repository/m/config.pbtxt")


def parse(text: str, **options: str) -> ModelConfig:
    return parse_config(text, PATH, "m", **options)  # type: ignore[arg-type]


def refused(text: str) -> str:
    """The error of a configuration, without its path."""
    with pytest.raises(RepositoryError) as caught:
        parse(text)
    assert caught.value.path == PATH
    return caught.value.problem


def test_an_empty_configuration_and_none_give_the_defaults(tmp_path: Path) -> None:
    config = parse("")
    assert config.version_policy.choose([1, 3, 2]) == [3]
    assert config.max_batch_size == 64
    assert config.batching == Batching(0.0, 3, 2, {1: QueuePolicy(), 2: QueuePolicy(), 3: QueuePolicy()})
    assert config.placements == (Placement("cpu"),)
    assert config.runtime == RuntimeOptions()
    assert (config.name, config.warmup, config.default_filename) == ("m", (), "")
    assert parse("", default_device="cuda").placements == (Placement("cuda"),)
    (tmp_path / "m").mkdir()
    assert load_config(tmp_path / "m") == config


FULL = """
# A comment with { and "
name: "m"
platform: "onnxruntime_onnx"  backend: "kniv"
max_batch_size: 16
version_policy: { specific: { versions: [ 3, 1 ] } }
instance_group [ { kind: KIND_CPU, count: 2 }, < kind: KIND_GPU gpus: 0 gpus: 2 > ]
dynamic_batching {
  max_queue_delay_microseconds: 500
  priority_levels: 2
  default_priority_level: 2
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 2000000 max_queue_size: 9 }
  priority_queue_policy { key: 1 value { allow_timeout_override: true } }
}
optimization {
  graph { level: -1 }
  execution_accelerators { gpu_execution_accelerator [ {
    name: "cuda" parameters { key: "use_tf32" value: "false" } parameters { key: "arena_extend_strategy" value: "1" }
  } ] }
}
parameters [
  { key: "variants_cpu" value { string_value: "fp32, int8" } },
  { key: "cpu_fallback" value { string_value: "true" } }
]
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
parameters { key: "enable_mem_arena" value { string_value: "0" } }
parameters { key: "enable_mem_pattern" value { string_value: "1" } }
parameters { key: "cudnn_conv_algo_search" value { string_value: "HEURISTIC" } }
default_model_filename: 'own.onnx'
model_warmup {
  name: "short" batch_size: 2
  inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: [ 8 ] random_data: true } }
  inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: 8 input_data_file: "mask.bin" } }
  inputs { key: "predicate_idx" value { data_type: TYPE_INT64 zero_data: true } }
}
"""


def test_every_setting_is_read() -> None:
    config = parse(FULL)
    assert config.max_batch_size == 16
    assert config.version_policy.choose([1, 2, 3]) == [3, 1]
    late = QueuePolicy(timeout=2.0, on_timeout="delay", max_queue_size=9)
    assert config.batching == Batching(0.0005, 2, 2, {1: QueuePolicy(allow_timeout_override=True), 2: late})
    assert config.placements == (Placement("cpu", (), 2), Placement("cuda", (0, 2)))
    cuda = {
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    assert config.runtime == RuntimeOptions({"cpu": ("fp32", "int8")}, 2, "basic", False, True, cuda, True)
    inputs = {
        "input_ids": WarmupInput("INT64", (8,), "random"),
        "attention_mask": WarmupInput("INT64", (8,), "file", "mask.bin"),
        "predicate_idx": WarmupInput("INT64", (), "zero"),
    }
    assert config.warmup == (WarmupSample("short", 2, 1, inputs),)
    assert config.default_filename == "own.onnx"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\nmax_batch: 3", "line 2: max_batch: "),
        ("instance_group [\n{},\n{ # {\n knd: KIND_CPU }]", "line 4: instance_group[1].knd: "),
        ('max_batch_size:\n"x"', "line 2: max_batch_size: Couldn't parse"),
        ("instance_group < kind: KIND_NONE >", "line 1: instance_group[0].kind: "),
        ("instance_group {\n kind: 17 }", "line 2: instance_group[0].kind: has no value 17"),
        ("instance_group {", "line 1: instance_group[0]: Expected"),
        ('name: "m', "line 1: name: "),
        ('name: "m" }', "line 1: "),
        ('# one\n\nname: "other"', "line 3: name: is 'other'"),
        ("max_batch_size: 0\nmax_batch_size: 8", "line 2: max_batch_size: is set again, after line 1"),
        (
            'parameters { key: "cpu_fallback" value { string_value: "1" } }\n' * 2,
            'line 2: parameters["cpu_fallback"]: is set again, after line 1',
        ),
        ('parameters {\nkey: "x" }', 'line 1: parameters["x"]: is no parameter'),
        ('parameters { key: "x\\n" }', "line 1: parameters"),
        (
            'parameters { key: "execution_mode" value { string_value: "1" } }',
            'line 1: parameters["execution_mode"]: is not supported: runs go side by side',
        ),
        (
            'parameters {\nkey: "gpu_mem_limit"\nvalue {\nstring_value: "-1" } }',
            'line 4: parameters["gpu_mem_limit"].string_value: must be a number',
        ),
        (
            'parameters { key: "variants_cuda" value { string_value: "fp16,fp16" } }',
            'line 1: parameters["variants_cuda"].string_value: must be a list of distinct variants',
        ),
        ("max_batch_size: -1", "line 1: max_batch_size: must not be negative"),
        ('platform: "tensorrt_plan"', "line 1: platform: "),
        ('backend: "python"', "line 1: backend: "),
        ('default_model_filename: "../x.onnx"', "line 1: default_model_filename: "),
        ('output {}\noutput { label_filename: "l.txt" }', "line 2: output[1].label_filename: "),
        ("version_policy { specific {} }", "line 1: version_policy.specific.versions: must name"),
        ("version_policy { specific {\n versions: [1,\n0] } }", "line 3: version_policy.specific.versions[1]: "),
        ("version_policy { latest {} all {} }", "line 1: version_policy.all: "),
        ("instance_group { count: -1 }", "line 1: instance_group[0].count: "),
        ("instance_group { kind: KIND_MODEL }", "line 1: instance_group[0].kind: KIND_MODEL"),
        ("instance_group { gpus: 1 }", "line 1: instance_group[0].gpus: needs kind: KIND_GPU"),
        ("instance_group { kind: KIND_GPU gpus: [0,\n0] }", "line 2: instance_group[0].gpus[1]: "),
        ("dynamic_batching { priority_levels: 2 }", "line 1: dynamic_batching.default_priority_level: "),
        ("dynamic_batching { default_priority_level: 2 }", "line 1: dynamic_batching.default_priority_level: "),
        ("dynamic_batching { priority_levels: 18446744073709551615 }", "line 1: dynamic_batching.priority_levels: "),
        (
            "dynamic_batching {\n priority_queue_policy\n{ key: 2 value {} } }",
            "line 2: dynamic_batching.priority_queue_policy[2]: is for no level",
        ),
        (
            "dynamic_batching {\n priority_queue_policy { key: 0x1 value {\ntimeout_action: 7 } } }",
            "line 3: dynamic_batching.priority_queue_policy[1].timeout_action: has no value 7",
        ),
        ("optimization { graph { level: 3 } }", "line 1: optimization.graph.level: "),
        (
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
            'optimization.execution_accelerators.gpu_execution_accelerator[0].name: must be "cuda"',
        ),
        (
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "cuda" parameters {\n'
            'key: "device_id" value: "1" } } } }',
            'gpu_execution_accelerator[0].parameters["device_id"]: is set by instance_group.gpus',
        ),
        ("model_warmup {\n batch_size: 65 }", "line 2: model_warmup[0].batch_size: "),
        ("model_warmup {}", "line 1: model_warmup[0].batch_size: "),
        (
            'model_warmup { batch_size: 1 inputs { key: "a" value { dims: [8] } } }',
            'line 1: model_warmup[0].inputs["a"]: must have one of zero_data',
        ),
        (
            'model_warmup { batch_size: 1 inputs { key: "a" value { dims: [-1] zero_data: true } } }',
            'line 1: model_warmup[0].inputs["a"].dims: must be positive',
        ),
        (
            'model_warmup { batch_size: 1 inputs { key: "a" value { input_data_file: "../../etc/passwd" } } }',
            'line 1: model_warmup[0].inputs["a"].input_data_file: ',
        ),
        ("sequence_batching {}", "line 1: sequence_batching: is not supported. A cascade keeps no state"),
        ("optimization {\n eager_batching: true }", "line 2: optimization.eager_batching: is not supported"),
        (
            "model_transaction_policy { decoupled: true }",
            "line 1: model_transaction_policy.decoupled: is not supported",
        ),
        ("[ext.x]: 1", "line 1: "),
        ("a{" * 20_000, "line 1: a: "),
        ("#" * 300_000, "is longer than"),
    ],
)
def test_what_is_wrong_is_named_with_its_field_and_line(text: str, problem: str) -> None:
    told = refused(text)
    assert problem in told
    assert len(told) < 600


def test_what_has_no_effect_may_be_said_with_its_default() -> None:
    text = "response_cache { enable: false } model_transaction_policy {} optimization { input_pinned_memory {} }"
    assert parse(text) == parse("")


def test_options_given_in_two_places_are_refused() -> None:
    accelerator = 'optimization {{ execution_accelerators {{ gpu_execution_accelerator {{ name: "cuda" {} }} }} }}'
    limit = 'parameters { key: "gpu_mem_limit" value { string_value: "9" } }'
    both = limit + accelerator.format('parameters { key: "gpu_mem_limit" value: "9" }')
    assert 'parameters["gpu_mem_limit"]: is set in the model\'s parameters too' in refused(both)


def test_cuda_graphs_are_refused_with_the_reason() -> None:
    option = 'name: "cuda" parameters { key: "enable_cuda_graph" value: "1" }'
    for text in (
        "optimization { cuda { graphs: true } }",
        f"optimization {{ execution_accelerators {{ gpu_execution_accelerator {{ {option} }} }} }}",
    ):
        assert "replays one shape" in refused(text)


def test_a_version_that_is_named_and_not_there_is_an_error() -> None:
    config = parse("\nversion_policy { specific { versions: [1, 4, 5] } }")
    with pytest.raises(RepositoryError, match=r"line 2: version_policy\.specific\.versions: names version 4, 5"):
        config.version_policy.choose([1, 2])
    assert parse("version_policy { all {} }").version_policy.choose([1, 3, 2]) == [3, 2, 1]
    assert parse("version_policy { latest { num_versions: 2 } }").version_policy.choose([1, 3, 2]) == [3, 2]


def test_json_says_the_same_as_text() -> None:
    text = "max_batch_size: 4 instance_group { kind: KIND_GPU gpus: 1 } dynamic_batching { priority_levels: 1 }"
    said = {
        "max_batch_size": 4,
        "instance_group": [{"kind": "KIND_GPU", "gpus": [1]}],
        "dynamicBatching": {"priorityLevels": "1"},
    }
    assert config_from_json(json.dumps(said), "m") == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"max": 1}',
        '{"max_batch_size": 1e400}',
        '{"max_batch_size": 1, "max_batch_size": 2}',
        '{"name": "\\ud800"}',
        '{"parameters": 3}',
        '{"instance_group": [3]}',
        '{"name": "x"}',
        '{"instance_group": [{"kind": 9}]}',
    ],
)
def test_broken_json_is_an_error_of_the_configuration(text: str) -> None:
    with pytest.raises(RepositoryError, match="configuration given for model m"):
        config_from_json(text, "m")


def test_json_names_the_field() -> None:
    with pytest.raises(RepositoryError, match=r"instance_group\[0\]"):
        config_from_json('{"instance_group": [{"knd": 1}]}', "m")
    with pytest.raises(RepositoryError, match=r"m: instance_group\[0\]\.count: must not"):
        config_from_json('{"instance_group": [{"count": -1}]}', "m")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b'name: "\xff"')
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: cannot be read"):
        load_config(tmp_path)
    path.write_text("#" + "é" * 200_000)
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: is longer than"):
        load_config(tmp_path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: cannot be read"):
        load_config(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: cannot be read"):
        load_config(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: is no regular file"):
        load_config(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RepositoryError, match=r"config\.pbtxt: is no regular file"):
        load_config(tmp_path)


def files(folder: Path, *variants: str) -> VersionFiles:
    return VersionFiles("m", 1, folder, {variant: folder / variant for variant in variants})


def test_each_device_serves_its_usual_variants_first(tmp_path: Path) -> None:
    config = parse("")
    assert list(config.graphs(files(tmp_path, "int8", "fp32", "fp16"), "cpu")) == ["int8", "fp32"]
    assert list(config.graphs(files(tmp_path, "int8", "fp32", "fp16"), "cuda")) == ["fp16", "fp32"]
    assert list(config.graphs(files(tmp_path, "int8"), "cuda")) == ["int8"]
    with pytest.raises(RepositoryError, match="holds no graph"):
        config.graphs(files(tmp_path), "cpu")


def test_variants_that_are_named_are_served_in_their_order(tmp_path: Path) -> None:
    config = parse('parameters { key: "variants_cpu" value { string_value: "fp16,int8" } }')
    assert list(config.graphs(files(tmp_path, "int8", "fp32", "fp16"), "cpu")) == ["fp16", "int8"]
    assert list(config.graphs(files(tmp_path, "fp32"), "cuda")) == ["fp32"]
    with pytest.raises(RepositoryError, match=r"line 1: parameters\[\"variants_cpu\"\]: names variant 'fp16'"):
        config.graphs(files(tmp_path, "int8", "fp32"), "cpu")


def test_a_default_file_is_served_first(tmp_path: Path) -> None:
    config = parse('default_model_filename: "own.onnx"')
    with pytest.raises(RepositoryError, match="line 1: default_model_filename: names a file that is not in"):
        config.graphs(files(tmp_path, "int8"), "cpu")
    (tmp_path / "own.onnx").touch()
    assert config.graphs(files(tmp_path, "int8"), "cpu") == {
        "default": tmp_path / "own.onnx",
        "int8": tmp_path / "int8",
    }
    assert config.graphs(files(tmp_path), "cuda") == {"default": tmp_path / "own.onnx"}
    (tmp_path / "cascade.onnx").touch()
    usual = parse('default_model_filename: "cascade.onnx"')
    assert list(usual.graphs(files(tmp_path, "int8", "fp32"), "cpu")) == ["fp32", "int8"]
