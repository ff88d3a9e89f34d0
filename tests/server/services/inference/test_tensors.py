"""Tensors off the wire: what is right comes out as it went in, what is wrong is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.services.inference.requests import BOUNDS, MISTAKES, Sample, row_request, samples
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, ServeError, UnsupportedError
from kniv.server.runtime.session import INPUTS
from kniv.server.services.inference.tensors import read_inputs


@given(samples())
def test_what_is_right_comes_out_as_it_went_in(sample: Sample) -> None:
    inputs = read_inputs(sample.message, BOUNDS)
    np.testing.assert_array_equal(inputs.ids, sample.ids)
    np.testing.assert_array_equal(inputs.lengths, sample.lengths)
    np.testing.assert_array_equal(inputs.predicates, sample.predicates)


@pytest.mark.parametrize("mistake", MISTAKES)
@given(sample=samples())
def test_a_mistake_is_refused_with_its_tensors_name(mistake: str, sample: Sample) -> None:
    message = pb.ModelInferRequest()
    message.CopyFrom(sample.message)
    name = MISTAKES[mistake](message)
    with pytest.raises(InvalidRequestError, match=name):
        read_inputs(message, BOUNDS)


sizes = st.integers(-3, 12) | st.sampled_from([1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, -(1 << 63)])
tensors = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(INPUTS) | st.text(max_size=3),
    datatype=st.sampled_from(["INT64", "INT64", "INT64", "INT32", ""]),
    shape=st.lists(sizes, max_size=3),
    contents=st.none() | st.builds(pb.InferTensorContents, int64_contents=st.lists(st.integers(-2, 60), max_size=12)),
)


@given(st.lists(tensors, max_size=5), st.lists(st.binary(max_size=100), max_size=5))
def test_any_other_request_is_refused_in_words(
    inputs: list[pb.ModelInferRequest.InferInputTensor], raw: list[bytes]
) -> None:
    try:
        read = read_inputs(pb.ModelInferRequest(inputs=inputs, raw_input_contents=raw), BOUNDS)
    except ServeError as error:
        assert str(error)
    else:
        assert (read.lengths >= 1).all()


def test_raw_tensors_are_not_copied() -> None:
    inputs = read_inputs(row_request([[1, 2, 3], [4, 5]]), BOUNDS)
    assert not inputs.ids.flags.owndata


def test_contents_must_be_as_many_as_the_inputs() -> None:
    message = row_request([[1, 2]])
    del message.raw_input_contents[1:]
    with pytest.raises(InvalidRequestError, match="raw_input_contents: 1 contents for 3 inputs"):
        read_inputs(message, BOUNDS)


def test_shared_memory_is_another_matter() -> None:
    message = row_request([[1, 2]])
    message.inputs[0].parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(UnsupportedError, match=r"input_ids.*shared memory is not served"):
        read_inputs(message, BOUNDS)


def test_the_row_and_place_at_fault_are_told() -> None:
    with pytest.raises(InvalidRequestError, match="row 1, subword 2: there is no id 50"):
        read_inputs(row_request([[1, 2, 3, 4], [5, 6, 50]]), BOUNDS)
    with pytest.raises(InvalidRequestError, match=r"predicate_idx.*row 1: 2 is outside of the row's 2 subwords"):
        read_inputs(row_request([[1, 2, 3], [4, 5]], [2, 2]), BOUNDS)
