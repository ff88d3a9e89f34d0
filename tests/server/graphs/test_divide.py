from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kniv.server.graphs.constants import apply as fold
from kniv.server.graphs.divide import divided
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.opset import apply as raise_opset
from kniv.server.graphs.pipeline import PASSES

from .conftest import Source, batch, session

K = 6


def normed(read_twice: bool) -> Graph:
    """A layer norm and the product that reads it, with another reader or none."""
    helper = onnx.helper
    random = np.random.default_rng(0)
    weights = {"g": random.normal(size=K), "b": random.normal(size=K), "w": random.normal(size=(K, 2))}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1),
        helper.make_node("MatMul", ["y", "w"], ["z"]),
        *([helper.make_node("Relu", ["y"], ["u"])] if read_twice else []),
    ]
    outputs = ["z", *(["u"] if read_twice else [])]
    graph = helper.make_graph(
        nodes,
        "normed",
        [helper.make_tensor_value_info("x", 1, ["B", K])],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.05, 20), min_size=K, max_size=K))
def test_a_norm_comes_out_divided(by: list[float]) -> None:
    divisors = np.array(by, dtype=np.float32)
    values = np.random.default_rng(1).normal(size=(3, K)).astype(np.float32)
    plain, made = normed(False), normed(False)
    for graph in (plain, made):
        graph.model.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, None))
        graph.model.graph.output.pop(0)
    assert not divided(made, "y", divisors, lambda node: True)  # an output has a reader of its own
    made = normed(False)
    assert divided(made, "y", divisors, lambda node: node.op_type == "MatMul")
    made.model.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, None))
    for graph in (plain, made):
        graph.close()
    wanted = session(plain.model).run(["y"], {"x": values})[0] / divisors
    np.testing.assert_allclose(session(made.model).run(["y"], {"x": values})[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_norm_that_others_read_is_left_alone() -> None:
    graph = normed(True)
    before = [node.SerializeToString() for node in graph.nodes]
    assert not divided(graph, "y", np.full(K, 2, np.float32), lambda node: node.op_type == "MatMul")
    assert [node.SerializeToString() for node in graph.nodes] == before


@pytest.mark.parametrize("layer", [0, 1])
def test_values_are_divided_where_the_context_is(source: Source, layer: int) -> None:
    context = f"attention_{layer}_context"
    divisors = np.random.default_rng(2).uniform(0.1, 10, 64).astype(np.float32)
    found = []
    for divide in (False, True):
        graph = Graph(source.load())
        for step in (raise_opset, fold, *PASSES[2:]):
            step(graph)
        assert not divide or divided(graph, context, divisors, lambda node: node.op_type == "MatMul")
        graph.model.graph.output.append(onnx.helper.make_tensor_value_info(context, 1, None))
        graph.close()
        found.append(session(graph.model).run([context], batch(3, 2, 9))[0])
    np.testing.assert_allclose(found[1], found[0] / divisors, rtol=1e-3, atol=1e-5)
