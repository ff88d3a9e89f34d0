from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.graphs import int8
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.pipeline import PASSES, optimise
from kniv.training.calibrate import ranges
from kniv.training.published import published_graph
from kniv.training.reference import Shape

from .conftest import Source, batch, row, run, session

Make = Callable[[Source], ort.InferenceSession]


def calibrated(model: onnx.ModelProto, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    return ranges(model, names, [batch(100 + seed, 1, 24) for seed in range(8)])


def everywhere(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of the graph and of its branches."""
    branches = [entry.g for node in model.graph.node if node.op_type == "If" for entry in node.attribute]
    return [node for graph in (model.graph, *branches) for node in graph.node]


@pytest.fixture(scope="session")
def made() -> dict[str, ort.InferenceSession]:
    return {}


@pytest.fixture
def eight_bits(source: Source, made: dict[str, ort.InferenceSession]) -> ort.InferenceSession:
    key = source.path.name
    if key not in made:
        made[key] = session(optimise(source.load(), calibrated).model)
    return made[key]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), rows=st.integers(2, 6), length=st.integers(3, 40))
def test_company_does_not_change_an_answer(eight_bits: ort.InferenceSession, seed: int, rows: int, length: int) -> None:
    feed = batch(seed, rows, length)
    together = run(eight_bits, feed)
    for index, real in enumerate(feed["attention_mask"].sum(1)):
        alone = run(eight_bits, row(feed, index))
        for name in ("pos_logits", "ner_logits", "srl_logits", "relation_scores"):
            assert np.abs(together[name][index, :real] - alone[name][0]).max() < 1e-4, name
        assert np.abs(together["cls_logits"][index] - alone["cls_logits"][0]).max() < 1e-4


def test_answers_stay_near_those_in_float(eight_bits: ort.InferenceSession, rewritten: ort.InferenceSession) -> None:
    feed = batch(7, 1, 40)
    exact, near = run(rewritten, feed), run(eight_bits, feed)
    for name in ("pos_logits", "ner_logits", "arc_scores", "cls_logits"):
        error = np.sqrt(((near[name] - exact[name]) ** 2).mean())
        assert error < 0.1 * exact[name].std(), name


def test_products_tables_and_lstms_are_in_eight_bits(published: Source) -> None:
    model = optimise(published.load(), calibrated).model
    kinds = [node.op_type for node in everywhere(model)]
    assert kinds.count("DynamicQuantizeLSTM") == 3
    assert "LSTM" not in kinds
    assert kinds.count("MatMulIntegerToFloat") > 10
    floats = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1}
    assert not [name for name, dims in floats.items() if dims in ([64, 192], [64, 128], [128, 64])]


def test_what_has_no_range_stays_in_float(published: Source) -> None:
    graph = Graph(published.load())
    assert int8.observed(graph)
    report = int8.quantise(graph, {})
    kinds = {node.op_type for node in graph.nodes}
    assert "MatMulIntegerToFloat" not in kinds
    assert "LSTM" in kinds
    assert report.places == 0


def test_evened_channels_bring_answers_nearer() -> None:
    model = published_graph(Shape(64, 2, 4, 128, vocabulary=60), seed=1, outliers=3)
    graph = Graph(model)
    for step in PASSES:
        step(graph)
    graph.close()
    names = int8.observed(Graph(copy.deepcopy(model)))
    looked_into = copy.deepcopy(model)
    looked_into.graph.output.extend([int8.tensor_info(name) for name in names])
    found, feed = calibrated(looked_into, names), batch(7, 1, 40)
    exact, errors = run(session(model), feed), {}
    for smooth in (False, True):
        rounded = Graph(copy.deepcopy(model))
        int8.quantise(rounded, found, smooth=smooth)
        rounded.close()
        got = run(session(rounded.model), feed)
        errors[smooth] = sum(
            float(np.square(got[name] - exact[name]).mean() / exact[name].var())
            for name in ("pos_logits", "srl_logits")
        )
    assert errors[True] < errors[False]


def test_divisions_cost_nothing_where_a_weight_takes_them(source: Source) -> None:
    nodes = everywhere(optimise(source.load(), calibrated).model)
    makers = {name: node.op_type for node in nodes for name in node.output}
    for node in nodes:
        if node.output[0].endswith("_even"):
            read = node.input[0]
            assert not read.endswith("_context"), read
            others = [reader for reader in nodes if read in reader.input and reader is not node]
            assert others or makers[read] != "LayerNormalization", read
