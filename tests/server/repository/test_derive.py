from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from tests.server.repository.configs import configurations
from tritonclient.grpc import model_config_pb2

from kniv.server.errors import RepositoryError
from kniv.server.repository.config import ModelConfig, parse_config
from kniv.server.repository.derive import check_signature, complete

PATH = Path("m/config.pbtxt")


@dataclass(frozen=True)
class Tensor:
    type: str
    shape: tuple[int, ...]


INPUTS = {
    "input_ids": Tensor("int64", (-1, -1)),
    "attention_mask": Tensor("int64", (-1, -1)),
    "predicate_idx": Tensor("int64", (-1,)),
}
OUTPUTS = {
    "pos_logits": Tensor("float", (-1, -1, 17)),
    "arc_scores": Tensor("float", (-1, -1, -1)),
    "cls_logits": Tensor("float", (-1, 8)),
}


def parse(text: str) -> ModelConfig:
    return parse_config(text, PATH, "m")


def completed(config: ModelConfig) -> model_config_pb2.ModelConfig:
    return complete(config, INPUTS, OUTPUTS)


def test_a_complete_configuration_comes_from_the_graph_alone() -> None:
    expected = """
    name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 64
    version_policy { latest { num_versions: 1 } }
    input { name: "input_ids" data_type: TYPE_INT64 dims: -1 }
    input { name: "attention_mask" data_type: TYPE_INT64 dims: -1 }
    input { name: "predicate_idx" data_type: TYPE_INT64 }
    output { name: "pos_logits" data_type: TYPE_FP32 dims: [-1, 17] label_filename: "labels.json" }
    output { name: "arc_scores" data_type: TYPE_FP32 dims: [-1, -1] }
    output { name: "cls_logits" data_type: TYPE_FP32 dims: 8 label_filename: "labels.json" }
    instance_group { name: "m_0" kind: KIND_CPU }
    dynamic_batching { priority_levels: 3 default_priority_level: 2 }
    """
    assert completed(parse("")) == text_format.Parse(expected, model_config_pb2.ModelConfig())


def test_what_is_written_stays() -> None:
    text = 'backend: "kniv" instance_group { name: "a" count: 3 } output { name: "arc_scores" data_type: TYPE_FP32 }'
    message = completed(parse(text))
    assert (message.backend, message.instance_group[0].name, message.instance_group[0].count) == ("kniv", "a", 3)
    assert [output.name for output in message.output] == ["arc_scores", "pos_logits", "cls_logits"]


@given(configurations())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_complete_configuration_means_the_same_when_it_is_read_again(
    message: model_config_pb2.ModelConfig,
) -> None:
    config = parse(text_format.MessageToString(message))
    whole = completed(config)
    again = parse(text_format.MessageToString(whole))
    assert again == config
    check_signature(again, INPUTS, OUTPUTS)
    assert completed(again) == whole


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('\ninput { name: "ids" }', r"line 2: input\[0\]\.name: 'ids' is no input of the graph; there are: input_ids"),
        ('input { name: "cls_logits" }', r"input\[0\]\.name: 'cls_logits' is no input"),
        (
            'input { name: "input_ids"\ndata_type: TYPE_INT32 dims: -1 }',
            r"line 2: input\[0\]\.data_type: of 'input_ids' is TYPE_INT32, but the graph's is TYPE_INT64",
        ),
        ('input { name: "input_ids" }', r"line 1: input\[0\]\.data_type: of 'input_ids' is TYPE_INVALID"),
        (
            'input { name: "input_ids" data_type: TYPE_INT64\ndims: [-1, -1] }',
            r"line 2: input\[0\]\.dims: of 'input_ids' is \[-1, -1\], but the graph's is \[-1\]; both are without",
        ),
        (
            'input { name: "predicate_idx" data_type: TYPE_INT64 dims: 1 }',
            r"input\[0\]\.dims: of 'predicate_idx' is \[1\], but the graph's is \[\]",
        ),
        (
            'output { name: "cls_logits" data_type: TYPE_FP32 dims: 9 }',
            r"output\[0\]\.dims: of 'cls_logits' is \[9\], but the graph's is \[8\]",
        ),
        (
            'output { name: "cls_logits" data_type: TYPE_FP32 dims: 8 }\n' * 2,
            r"line 2: output\[1\]\.name: 'cls_logits' is described twice",
        ),
        (
            '\nmodel_warmup { batch_size: 1 inputs { key: "input_ids" value { zero_data: true } } }',
            r"line 2: model_warmup\[0\]\.inputs: lacks 'attention_mask'",
        ),
    ],
)
def test_what_the_graph_does_not_have_is_named(text: str, problem: str) -> None:
    config = parse(text)
    with pytest.raises(RepositoryError, match=problem):
        check_signature(config, INPUTS, OUTPUTS)


WARMUP = """model_warmup {{ batch_size: 1
inputs {{ key: "input_ids" value {{ data_type: TYPE_INT64 dims: 8 zero_data: true }} }}
inputs {{ key: "attention_mask" value {{ data_type: {} dims: {} zero_data: true }} }}
inputs {{ key: "predicate_idx" value {{ data_type: TYPE_INT64 zero_data: true }} }}
{} }}"""


def test_warm_up_requests_fit_the_graph() -> None:
    check_signature(parse(WARMUP.format("TYPE_INT64", 8, "")), INPUTS, OUTPUTS)
    for values, problem in {
        ("TYPE_FP32", "8", ""): r'line 3: model_warmup\[0\]\.inputs\["attention_mask"\]\.data_type: is FP32, but',
        ("TYPE_INT64", "[1, 8]", ""): r'line 3: model_warmup\[0\]\.inputs\["attention_mask"\]\.dims: is \[1, 8\], but',
        ("TYPE_INT64", "8", 'inputs { key: "x" value { zero_data: true } }'): r'line 5: .*\["x"\]: is no input',
    }.items():
        config = parse(WARMUP.format(*values))
        with pytest.raises(RepositoryError, match=problem):
            check_signature(config, INPUTS, OUTPUTS)


def test_a_type_that_cannot_be_sent_is_told() -> None:
    with pytest.raises(RepositoryError, match="'input_ids' is of type float8e4m3fn"):
        complete(parse(""), INPUTS | {"input_ids": Tensor("float8e4m3fn", (-1, -1))}, OUTPUTS)
