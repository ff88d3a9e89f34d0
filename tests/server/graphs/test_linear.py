from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from kniv.server.graphs import products
from kniv.server.graphs.graph import Array, Graph
from kniv.server.graphs.linear import linear, side_by_side, weight_of

from .conftest import session

LAYERS = ("a", "b", "c")


def model_of(random: np.random.Generator, kind: type[np.generic], *, by_column: bool, added: bool) -> onnx.ModelProto:
    """Three layers of one activation, as ``quantize_dynamic`` writes them."""
    low, high = (-64, 65) if kind is np.int8 else (0, 256)
    shape = (8,) if by_column else ()
    stored: dict[str, Array] = {}
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"])]
    for name in LAYERS:
        stored[name + "_weight"] = random.integers(low, high, (16, 8)).astype(kind)
        stored[name + "_zeros"] = random.integers(max(low, -2), 3, shape).astype(kind)
        stored[name + "_scales"] = random.uniform(1e-3, 1e-2, shape).astype(np.float32)
        stored[name + "_bias"] = random.normal(size=8).astype(np.float32)
        product = ["codes", name + "_weight", "zero", name + "_zeros"]
        nodes += [
            helper.make_node("MatMulInteger", product, [name + "_sums"]),
            helper.make_node("Cast", [name + "_sums"], [name + "_floats"], to=1),
            helper.make_node("Mul", ["scale", name + "_scales"], [name + "_both"]),
            helper.make_node("Mul", [name + "_floats", name + "_both"], [name + "_product" if added else name]),
        ]
        if added:
            nodes.append(helper.make_node("Add", [name + "_bias", name + "_product"], [name]))
    kept = stored if added else {name: value for name, value in stored.items() if not name.endswith("_bias")}
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", 1, [2, 5, 16])],
        [helper.make_tensor_value_info(name, 1, [2, 5, 8]) for name in LAYERS],
        [numpy_helper.from_array(value, name) for name, value in kept.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([np.int8, np.uint8]),
    by_column=st.booleans(),
    added=st.booleans(),
)
def test_layers_side_by_side_are_the_layers_bit_for_bit(
    seed: int, kind: type[np.generic], by_column: bool, added: bool
) -> None:
    random = np.random.default_rng(seed)
    model = model_of(random, kind, by_column=by_column, added=added)
    feed = {"x": random.normal(size=(2, 5, 16)).astype(np.float32)}
    wanted = session(model).run(list(LAYERS), feed)
    graph = Graph(model)
    assert products.apply(graph).places == 3
    layers = [linear(graph, name) for name in LAYERS]
    joined = side_by_side(graph, [layer for layer in layers if layer is not None], (1.0, 0.5, 1.0), "joined")
    model.graph.output.append(helper.make_tensor_value_info(joined, 1, None))
    graph.close()
    result = session(model).run([*LAYERS, joined], feed)
    for got, one in zip(result, wanted, strict=False):
        np.testing.assert_array_equal(got, one)
    parts = np.split(result[-1], 3, axis=-1)
    for got, one, gain in zip(parts, wanted, (1.0, 0.5, 1.0), strict=True):
        np.testing.assert_array_equal(got, one * np.float32(gain))  # halves are exact


def test_a_weight_s_columns_are_moved_with_their_scales() -> None:
    random = np.random.default_rng(1)
    graph = Graph(model_of(random, np.int8, by_column=True, added=True))
    products.apply(graph)
    layer = linear(graph, "b")
    assert layer is not None
    weight = weight_of(graph, layer)
    order = random.permutation(8)
    np.testing.assert_array_equal(weight.columns(order).floats(), weight.floats()[:, order])
    np.testing.assert_array_equal(weight.times(0.25).floats(), weight.floats() * np.float32(0.25))


def test_products_that_are_scaled_by_row_are_left_alone() -> None:
    model = model_of(np.random.default_rng(2), np.int8, by_column=True, added=False)
    for node in model.graph.node:
        if node.op_type == "Mul" and node.input[0] == "scale":
            node.input[1] = "codes_scale"  # made at run time, no weight
    model.graph.node.insert(1, helper.make_node("Identity", ["scale"], ["codes_scale"]))
    graph = Graph(model)
    report = products.apply(graph)
    assert (report.places, report.note) == (0, "no product is quantised at run time")
    assert [node.op_type for node in graph.nodes].count("MatMulInteger") == 3
