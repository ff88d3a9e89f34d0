from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import InferResult, model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, UnsupportedError
from kniv.server.services.inference.outputs import Answers, Output, asked_for, outputs_of

KNOWN = {
    name: Output(name, "FP32", dims)
    for name, dims in {
        "pos_logits": (-1, 3),
        "arc_scores": (-1, -1),
        "label_scores": (-1, -1, 2),
        "cls_logits": (4,),
    }.items()
}


def request(*names: str) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest()
    for name in names:
        message.outputs.add(name=name)
    return message


def test_outputs_come_in_the_order_asked_for() -> None:
    assert asked_for(request("cls_logits", "pos_logits"), KNOWN) == (KNOWN["cls_logits"], KNOWN["pos_logits"])
    assert asked_for(request(), KNOWN) == tuple(KNOWN.values())


@pytest.mark.parametrize("names", [("pos_logit",), ("cls_logits", "cls_logits"), ("",)])
def test_an_output_at_fault_is_named(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequestError, match=f"outputs\\[{len(names) - 1}\\].name: '{names[-1]}'"):
        asked_for(request(*names), KNOWN)


@pytest.mark.parametrize("parameter", ["classification", "shared_memory_region"])
def test_extensions_that_are_not_served(parameter: str) -> None:
    message = request("cls_logits")
    message.outputs[0].parameters[parameter].int64_param = 3
    with pytest.raises(UnsupportedError, match=r"outputs\['cls_logits'\]"):
        asked_for(message, KNOWN)


def test_other_parameters_of_outputs_are_unknown() -> None:
    message = request("cls_logits")
    message.outputs[0].parameters["binary_data"].bool_param = False
    with pytest.raises(InvalidRequestError, match="'binary_data'"):
        asked_for(message, KNOWN)


def test_the_configuration_tells_of_the_outputs() -> None:
    config = model_config_pb2.ModelConfig()
    config.output.add(name="pos_logits", data_type=model_config_pb2.TYPE_FP32, dims=[-1, 3])
    config.output.add(name="attentions", data_type=model_config_pb2.TYPE_FP32, dims=[-1, -1])
    assert outputs_of(config) == {"pos_logits": KNOWN["pos_logits"]}


@given(st.integers(0, 1 << 30), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 3))
def test_rows_of_any_length_are_padded_with_zeros(seed: int, lengths: list[int], padding: int) -> None:
    values, subwords = np.random.default_rng(seed), max(lengths) + padding
    answers, rows = Answers(tuple(KNOWN.values()), len(lengths), subwords), []
    for row, length in enumerate(lengths):
        rows.append({name: values.normal(size=one.shape(1, length)[1:]).astype("f4") for name, one in KNOWN.items()})
        answers.write(row, rows[-1])
    response = pb.ModelInferResponse.FromString(answers.packed(pb.ModelInferResponse(id="r"), in_stream=False))
    assert response.id == "r"
    streamed = pb.ModelStreamInferResponse.FromString(answers.packed(pb.ModelInferResponse(id="r"), in_stream=True))
    assert streamed.infer_response == response
    for name, output in KNOWN.items():
        whole = InferResult(response).as_numpy(name)
        assert whole.shape == output.shape(len(lengths), subwords)
        assert output.size(len(lengths), subwords) == whole.nbytes == prod(whole.shape) * 4
        for row, found in enumerate(rows):
            own = tuple(slice(size) for size in found[name].shape)
            np.testing.assert_array_equal(whole[row][own], found[name])
            assert np.count_nonzero(whole[row]) == np.count_nonzero(found[name])
