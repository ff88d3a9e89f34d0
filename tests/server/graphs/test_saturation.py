"""Weights of eight bits answer alike on every CPU: on one without VNNI these tests see the hardware cut sums off."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kniv.server.graphs import saturation
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.pipeline import optimise
from kniv.server.graphs.saturation import LIMIT, steps

from .conftest import Source, batch, run, session
from .test_int8 import calibrated, everywhere

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
SEEDS = st.integers(0, 10**6)


def largest_pair(codes: np.ndarray, axis: int = -2) -> int:
    """By the rule's own words, a pair at a time."""
    rows = np.moveaxis(codes.astype(int), axis, 0).reshape(codes.shape[axis], -1)
    pairs = [(rows[k], rows[k + 1] if k + 1 < len(rows) else 0 * rows[k]) for k in range(0, len(rows), 2)]
    return max(int(np.where(a * b > 0, abs(a) + abs(b), np.maximum(abs(a), abs(b))).max()) for a, b in pairs)


def tight(random: np.random.Generator, depth: int, width: int) -> np.ndarray:
    """Codes of which every pair is as large as it may be."""
    first = random.integers(0, LIMIT, (depth, width))
    signs = random.choice([-1, 1], (depth, width))
    codes = signs * np.where(np.arange(depth)[:, None] % 2, 0, first)
    codes[1::2] = (signs * (LIMIT - first))[: depth - depth % 2 : 2]
    return np.clip(codes, -127, 127).astype(np.int8)


def product(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None = None) -> onnx.ModelProto:
    stored = {"codes": codes, "step": np.float32(1), "scales": scales, "zero": np.uint8(0)}
    inputs = ["x", "codes", "step", "scales", "zero"]
    if zeros is not None:
        stored["zeros"] = zeros
        inputs.append("zeros")
    node = helper.make_node("MatMulIntegerToFloat", inputs, ["y"], name="y", domain="com.microsoft")
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["M", len(codes)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", codes.shape[1]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def answers(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": rows}
    )[0]
    return found


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 40), depth=st.integers(1, 300), width=st.integers(1, 80))
def test_pairs_that_fit_are_multiplied_rightly_whatever_the_activations(
    seed: int, rows: int, depth: int, width: int
) -> None:
    random = np.random.default_rng(seed)
    codes = tight(random, depth, width)
    assert largest_pair(codes) <= LIMIT
    given_rows = random.choice([0, 1, 254, 255], (rows, depth)).astype(np.uint8)
    exact: Ints = given_rows.astype(np.int64) @ codes.astype(np.int64)
    np.testing.assert_array_equal(answers(product(codes, np.ones(width, np.float32)), given_rows), exact)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, depth=st.integers(1, 60), large=st.floats(0, 2))
def test_numbers_are_rounded_to_pairs_that_fit(seed: int, depth: int, large: float) -> None:
    values = np.random.default_rng(seed).standard_normal((depth, 30)).astype(np.float32) ** 3 * np.float32(10**large)
    values[:, 0] = 0
    scales = steps(values, axis=0)
    codes = np.rint(values / scales)
    assert np.abs(codes).max() <= 127 and largest_pair(codes) <= LIMIT
    assert np.abs(codes * scales - values).max() <= scales.max() / 2 * 1.001
    # No column gives away more than it must: a code or a pair of each is as large as may be.
    assert all(largest_pair(codes[:, [column]]) >= 126 for column in range(1, 30) if values[:, column].any())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, scalar=st.booleans(), shift=st.integers(-40, 40))
def test_weights_that_would_overflow_are_scaled_down_and_keep_what_they_say(
    seed: int, scalar: bool, shift: int
) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, (37, 20)).astype(np.int8)
    codes[:, 0] = random.integers(-30, 30, 37)
    scales = np.float32(0.01) if scalar else random.uniform(0.01, 0.1, 20).astype(np.float32)
    zeros = np.full((1 if scalar else 20,), shift, np.int8) if shift else None
    model = product(codes, scales, zeros if zeros is None or not scalar else zeros[0])
    meant = (codes.astype(int) - shift) * scales
    graph = Graph(copy.deepcopy(model))
    assert saturation.apply(graph).places == 1
    graph.close()
    stored = {entry.name: numpy_helper.to_array(entry) for entry in graph.model.graph.initializer}
    _, weight, _, scale, _, *zero = graph.model.graph.node[0].input
    assert largest_pair(stored[weight]) <= LIMIT
    assert all(not stored[name].any() for name in zero)
    off = np.abs(stored[weight] * stored[scale] - meant)
    assert (off <= stored[scale] / 2 * 1.001).all()
    if not shift:
        np.testing.assert_array_equal(stored[weight][:, 0], codes[:, 0])  # a column that fits is left alone
    rows = random.integers(0, 256, (5, 37)).astype(np.uint8)
    exact = rows.astype(np.int64) @ stored[weight].astype(np.int64) * stored[scale]
    np.testing.assert_allclose(answers(graph.model, rows), exact, rtol=1e-5, atol=1e-2)
    again = Graph(graph.model)
    assert saturation.apply(again).places == 0


def test_what_the_published_recipe_makes_fits_as_it_is() -> None:
    codes = np.random.default_rng(1).integers(-64, 65, (40, 10)).astype(np.int8)
    assert saturation.apply(Graph(product(codes, np.ones(10, np.float32)))).places == 0


@pytest.mark.parametrize("kind", ["MatMulIntegerToFloat", "DynamicQuantizeLSTM"])
def test_files_of_ours_fit_whatever_made_them(source: Source, kind: str) -> None:
    model = optimise(source.load(), calibrated).model
    stored = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    places = {"MatMulIntegerToFloat": (1,), "DynamicQuantizeLSTM": (1, 2)}[kind]
    weights = [stored[node.input[place]] for node in everywhere(model) if node.op_type == kind for place in places]
    assert weights and max(largest_pair(codes) for codes in weights) <= LIMIT


def test_a_file_that_was_rewritten_before_is_seen_to(source: Source) -> None:
    """Weights of full range, as files of before have them, in branches and LSTMs too."""
    model = optimise(source.load(), calibrated).model
    wide = copy.deepcopy(model)
    for entry in wide.graph.initializer:
        value = numpy_helper.to_array(entry)
        if value.dtype == np.int8 and value.ndim > 1 and value.any():
            full = np.clip(np.rint(value * (127 / np.abs(value).max())), -127, 127).astype(np.int8)
            full[..., :2, :] = 127
            entry.CopyFrom(numpy_helper.from_array(full, entry.name))
    done = optimise(wide)
    assert [report.name for report in done.report] == ["all", "saturation"]
    assert done.report[1].places > 10
    onnx.checker.check_model(done.model)
    assert optimise(copy.deepcopy(done.model)).report[1].places == 0
    assert all(np.isfinite(value).all() for value in run(session(done.model), batch(3, 2, 20)).values())
