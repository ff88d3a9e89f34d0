from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kniv.training import quantise as quantising
from kniv.training.cascade import Outputs
from kniv.training.export import INPUTS, export_graph
from kniv.training.predict import GraphPredictor
from kniv.training.quantise import WEIGHT_LEVELS, quantise

from .conftest import tiny_cascade, vocabulary


def run(path: Path, feed: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return dict(zip(Outputs._fields, session.run(None, feed), strict=True))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    paths = {name: folder / f"{name}.onnx" for name in ("fp32", "rowwise", "published")}
    export_graph(tiny_cascade(), paths["fp32"])
    quantise(paths["fp32"], paths["rowwise"])
    quantise(paths["fp32"], paths["published"], "published")
    return paths


def feed(seed: int, lengths: list[int]) -> dict[str, NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = random.integers(5, 55, mask.shape) * mask
    return dict(zip(INPUTS, (ids, mask, np.zeros(len(lengths), dtype=np.int64)), strict=True))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), lengths=st.lists(st.integers(2, 40), min_size=2, max_size=6))
def test_batch_mates_and_padding_do_not_reach_an_answer(graphs: dict[str, Path], seed: int, lengths: list[int]) -> None:
    given_rows = feed(seed, lengths)
    together = run(graphs["rowwise"], given_rows)
    for row, length in enumerate(lengths):
        alone = run(
            graphs["rowwise"],
            {
                "input_ids": given_rows["input_ids"][row : row + 1, :length],
                "attention_mask": given_rows["attention_mask"][row : row + 1, :length],
                "predicate_idx": given_rows["predicate_idx"][row : row + 1],
            },
        )
        for name in ("pos_logits", "ner_logits", "srl_logits"):
            # A value on the edge between two codes may fall to either side: FP32 sums depend on their order.
            np.testing.assert_allclose(together[name][row, :length], alone[name][0], atol=2e-2, err_msg=name)


def test_answers_stay_near_the_fp32_ones(graphs: dict[str, Path]) -> None:
    given_rows = feed(1, [30, 30, 30])
    exact, ours = run(graphs["fp32"], given_rows), run(graphs["rowwise"], given_rows)
    for name in Outputs._fields:
        error = np.linalg.norm(ours[name] - exact[name]) / np.linalg.norm(exact[name])
        assert error < 0.06, name


def test_our_graph_needs_standard_operators_alone(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["rowwise"])
    assert {opset.domain for opset in graph.opset_import} == {""}
    kinds = {node.op_type for node in graph.graph.node}
    assert {"MatMulInteger", "LSTM"} <= kinds
    assert not {"DynamicQuantizeLinear", "DynamicQuantizeLSTM"} & kinds


def test_no_pair_of_products_can_saturate_int16(graphs: dict[str, Path]) -> None:
    """CPUs without VNNI add two uint8 x int8 products in int16."""
    graph = onnx.load(graphs["rowwise"]).graph
    products = {node.input[1] for node in graph.node if node.op_type == "MatMulInteger"}
    codes = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in products]
    assert codes
    assert all(2 * 255 * np.abs(values.astype(int)).max() <= np.iinfo(np.int16).max for values in codes)


def test_large_weights_are_stored_small_and_once(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["rowwise"]).graph
    names = [tensor.name for tensor in graph.initializer]
    assert len(names) == len(set(names))
    used = {name for node in graph.node for name in node.input}
    assert set(names) <= used
    floats = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert max(np.prod(tensor.dims) for tensor in floats) < 64 * quantising.MIN_ROWS


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-4, 1e3))
def test_codes_lose_at_most_half_a_step(seed: int, scale: float) -> None:
    values = (np.random.default_rng(seed).standard_normal((7, 5)) * scale).astype(np.float32)
    values[:, 0] = 0
    codes, scales = quantising._codes(values, axis=0, levels=WEIGHT_LEVELS)
    assert np.abs(codes.astype(int)).max() <= WEIGHT_LEVELS
    assert (np.abs(codes * scales - values) <= scales * 0.501).all()


def test_a_row_of_zeros_gives_zeros(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    source, target = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), source)
    quantise(source, target)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    values = np.zeros((2, 8), dtype=np.float32)
    values[1] = np.arange(8)
    got = session.run(None, {"x": values})[0]
    assert (got[0] == 0).all()
    exact = values[1] @ weight
    assert np.linalg.norm(got[1] - exact) < 0.02 * np.linalg.norm(exact)


def test_fixed_ranges_keep_company_out_of_an_answer_and_answers_near(tmp_path: Path) -> None:
    model = tiny_cascade()
    vocabulary().tokenizer().save(str(tmp_path / "tokenizer.json"))
    export_graph(model, tmp_path / "a.onnx")
    quantise(tmp_path / "a.onnx", tmp_path / "b.onnx", "fixed")
    ids = feed(3, [20, 20, 20])["input_ids"]
    predicates, outputs = np.array([1, 2, 3]), ("pos_logits", "ner_logits", "srl_logits", "label_scores", "cls_logits")
    exact, ours = (GraphPredictor(tmp_path / name) for name in ("a.onnx", "b.onnx"))
    assert ours.rows_at_once is None
    together, expected = ours(ids, predicates, outputs), exact(ids, predicates, outputs)
    for name in outputs:
        error = np.linalg.norm(together[name] - expected[name]) / np.linalg.norm(expected[name])
        assert error < 0.15, name
        for row in range(3):
            alone = ours(ids[row : row + 1], predicates[row : row + 1], (name,))[name][0]
            np.testing.assert_allclose(together[name][row], alone, atol=1e-3, err_msg=name)
