from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from kniv.server.graphs import half
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.pipeline import optimise
from kniv.training.quantise import quantise

from .conftest import Answers, Source, batch, row, run, session

# Of an output's spread; FP16 has 11 bits, and a dozen roundings lie between a subword and its logits.
TOLERANCE = 0.03


@pytest.fixture(scope="session")
def made() -> dict[str, onnx.ModelProto]:
    return {}


@pytest.fixture
def halved(source: Source, made: dict[str, onnx.ModelProto]) -> onnx.ModelProto:
    key = source.path.name
    if key not in made:
        made[key] = optimise(source.load(), halve=True).model
    return made[key]


def everywhere(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    branches = [entry.g for node in model.graph.node if node.op_type == "If" for entry in node.attribute]
    return [node for graph in (model.graph, *branches) for node in graph.node]


def near(got: Answers, wanted: Answers, length: int) -> None:
    for name in ("pos_logits", "ner_logits", "srl_logits", "cls_logits", "arc_scores", "label_scores"):
        expected = wanted[name][0]
        found = got[name][0]
        if name != "cls_logits":
            found, expected = found[:length], expected[:length]
        if name in ("arc_scores", "label_scores"):
            found, expected = found[:, :length], expected[:, :length]
        assert np.abs(found - expected).max() <= TOLERANCE * max(1.0, float(expected.std())), name


def test_answers_are_near_those_in_full_precision(source: Source, halved: onnx.ModelProto) -> None:
    running = session(halved)
    for seed in range(4):
        feed = batch(seed, 3, 40)
        together = run(running, feed)
        for index, length in enumerate(feed["attention_mask"].sum(1)):
            got = {name: value[index : index + 1] for name, value in together.items() if name != "relation_weight"}
            near(got, run(source.session, row(feed, index)), int(length))


def test_no_number_is_lost_to_masks_or_long_rows(halved: onnx.ModelProto) -> None:
    running = session(halved)
    feed = batch(9, 2, 512)
    assert all(np.isfinite(value).all() for value in run(running, feed).values())


def test_inputs_and_outputs_keep_their_types(source: Source, halved: onnx.ModelProto) -> None:
    onnx.checker.check_model(halved)
    kinds = {value.name: value.type.tensor_type.elem_type for value in halved.graph.output}
    assert set(kinds.values()) == {TensorProto.FLOAT}
    assert {node.name: node.type for node in session(halved).get_outputs()} == dict.fromkeys(kinds, "tensor(float)")


def test_products_are_halved_and_lstms_are_not(halved: onnx.ModelProto) -> None:
    kinds = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    weights = kinds.keys() - {"tasks_needs"}  # which counts what asks for a head
    read = [(node.op_type, kinds[name]) for node in everywhere(halved) for name in node.input if name in weights]
    assert {kind for op, kind in read if op == "MatMul"} == {TensorProto.FLOAT16}
    assert TensorProto.FLOAT16 not in {kind for op, kind in read if op == "LSTM"}


def test_a_weight_that_half_precision_cannot_hold_stays(published: Source) -> None:
    model = published.load()
    graph = Graph(model)
    products = [node.input[1] for node in graph.nodes if node.op_type == "MatMul" and node.input[1] in graph.weights]
    name = next(name for name in products if list(graph.weights[name].dims) == [64, 128])  # of a feed-forward layer
    value = np.array(graph.value(name))
    value[0, 0] = 1e6
    graph.weights[name].raw_data = value.tobytes()
    done = optimise(model, halve=True).model
    assert all(np.isfinite(onnx.numpy_helper.to_array(tensor)).all() for tensor in done.graph.initializer)
    assert any(
        tensor.data_type == TensorProto.FLOAT and 1e6 in onnx.numpy_helper.to_array(tensor)
        for tensor in done.graph.initializer
    )


def test_a_constant_that_would_become_zero_stays(published: Source) -> None:
    model = published.load()
    graph = Graph(model)
    graph.redirect("pos_logits", graph.add("Add", ["pos_logits", graph.weight("least", np.float32(1e-9))], "shifted"))
    graph.close()
    made = {tensor.name: tensor.data_type for tensor in optimise(model, halve=True).model.graph.initializer}
    assert made["least"] == TensorProto.FLOAT and "least_half" not in made


def test_a_quantised_graph_is_left_alone(make_source: Callable[[str], Source], tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    quantise(make_source("reference").path, target)
    report = half.apply(Graph(onnx.load(target)))
    assert (report.places, report.note) == (0, "the graph is quantised")
