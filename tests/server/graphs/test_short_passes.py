"""Passes that rewrite a few nodes each: alone, each leaves every answer what it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.graphs import arcs, mixes, sizes
from kniv.server.graphs.constants import apply as fold
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.opset import apply as raise_opset
from kniv.server.graphs.pipeline import Pass
from kniv.server.graphs.trace import trace

from .conftest import Source, batch, run, session

ALL = [mixes.apply, arcs.apply, sizes.apply]
NAMES = [mixes.NAME, arcs.NAME, sizes.NAME]
Made = dict[tuple[str, str], ort.InferenceSession]


def ready(model: onnx.ModelProto) -> Graph:
    graph = Graph(model)
    raise_opset(graph)
    fold(graph)
    return graph


def kinds(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


@pytest.fixture(scope="session")
def after() -> Made:
    return {}


@pytest.fixture(params=ALL, ids=NAMES)
def step(request: pytest.FixtureRequest) -> Pass:
    found: Pass = request.param
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), rows=st.integers(1, 4), length=st.integers(1, 20))
def test_answers_stay_what_they_were(
    source: Source, step: Pass, after: Made, seed: int, rows: int, length: int
) -> None:
    key = (source.path.name, step.__module__)
    if key not in after:
        graph = ready(source.load())
        step(graph)
        graph.close()
        after[key] = session(graph.model)
    feed = batch(seed, rows, length)
    made = run(after[key], feed)
    for name, wanted in run(source.session, feed).items():
        np.testing.assert_allclose(made[name], wanted, atol=1e-4, rtol=1e-4, err_msg=name)


def test_every_head_s_mix_is_a_product(source: Source) -> None:
    graph = ready(source.load())
    assert mixes.apply(graph).places == 5
    laid = [node for node in graph.nodes if node.op_type == "Concat" and node.output[0] == "states"]
    assert len(laid) == 1
    assert len(laid[0].input) == 3  # what is embedded, and two layers


def test_sums_whose_weights_depend_on_sizes_are_left_alone(source: Source) -> None:
    graph = ready(source.load())
    length = graph.add("Cast", [graph.add("Shape", ["input_ids"], "length", start=1, end=2)], "length_float", to=1)
    for node in list(graph.nodes):
        known = [graph.scalar(name) is not None and graph.weights[name].data_type == 1 for name in node.input]
        if node.op_type == "Mul" and any(known):
            place = known.index(True)
            node.input[place] = graph.add("Mul", [node.input[place], length], node.output[0] + "_by_length")
    graph.touch()
    graph.prune()
    assert mixes.apply(graph).places == 0


def test_arcs_are_two_products(published: Source) -> None:
    graph = ready(published.load())
    before = kinds(graph).count("Einsum")
    assert arcs.apply(graph).places == 1
    assert kinds(graph).count("Einsum") == before - 1


def test_shapes_come_from_the_input_alone(published: Source) -> None:
    graph = ready(published.load())
    before = len(graph.nodes)
    assert sizes.apply(graph).places > 0
    assert len(graph.nodes) < before - 10
    heads = [node for node in graph.nodes if node.op_type == "Shape" and "encoder" not in node.output[0]]
    assert {node.input[0] for node in heads if not node.input[0].startswith("/")} == {"input_ids"}


@pytest.mark.parametrize("step", ALL, ids=NAMES)
def test_a_second_time_there_is_nothing_to_do(published: Source, step: Callable[[Graph], object]) -> None:
    graph = ready(published.load())
    step(graph)
    nodes = [node.SerializeToString() for node in graph.nodes]
    step(graph)
    assert [node.SerializeToString() for node in graph.nodes] == nodes


def test_a_size_that_is_none_of_the_input_s_stays(published: Source) -> None:
    graph = ready(published.load())
    length = graph.add("Shape", ["input_ids"], "length", start=1, end=2)
    twice = graph.add("Mul", [length, graph.ints(2)], "twice")
    spread = graph.add("Expand", [graph.weight("one", np.ones(1, np.float32)), twice], "spread")
    graph.append(onnx.helper.make_node("Identity", [spread], ["extra"]))
    graph.model.graph.output.append(onnx.helper.make_tensor_value_info("extra", 1, ["twice"]))
    sizes.apply(graph)
    assert "twice" in {name for node in graph.nodes for name in node.output}
    assert trace(graph, 2, 6).shape("extra") == (12,)


def test_a_size_that_has_an_upper_end_stays(published: Source) -> None:
    graph = ready(published.load())
    length = graph.add("Shape", ["input_ids"], "length", start=1, end=2)
    least = graph.add("Min", [length, graph.ints(128)], "least")
    spread = graph.add("Expand", [graph.weight("one", np.ones(1, np.float32)), least], "spread")
    graph.append(onnx.helper.make_node("Identity", [spread], ["extra"]))
    graph.model.graph.output.append(onnx.helper.make_tensor_value_info("extra", 1, ["least"]))
    sizes.apply(graph)
    assert trace(graph, 1, 400).shape("extra") == (128,)
