from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from kniv.server.graphs import constants
from kniv.server.graphs.graph import Graph


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), size=st.floats(1e-3, 1e3), shift=st.floats(-3, 3))
def test_folded_products_hold_the_codes_and_sums_of_onnx_runtime(
    seed: int, rows: int, size: float, shift: float
) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(shift, 1, (1, rows, 24)) * size).astype(np.float32)
    weight = random.integers(-64, 65, (24, 8), dtype=np.int8)
    zeros = random.integers(-3, 4, 8, dtype=np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["values"], ["codes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["codes", "weight", "zero", "zeros"], ["sums"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["seen"]),
    ]
    names = ("codes", "scale", "zero", "sums", "seen")
    kinds = (2, 1, 2, 6, 1)
    stored = {"values": values, "weight": weight, "zeros": zeros}
    # Outputs are not folded: each is read by an Identity that is.
    copies = [helper.make_node("Identity", [name], [name + "_out"]) for name in names]
    graph = helper.make_graph(
        [*nodes, *copies],
        "constants",
        [],
        [helper.make_tensor_value_info(name + "_out", kind, None) for name, kind in zip(names, kinds, strict=True)],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = dict(zip(names, session.run(None, {}), strict=True))
    folded = Graph(onnx.ModelProto.FromString(model.SerializeToString()))
    assert constants.apply(folded).places == len(nodes)
    copied = {node.output[0].removesuffix("_out"): node.input[0] for node in folded.nodes}
    for name in names:
        np.testing.assert_array_equal(folded.value(copied[name]), wanted[name], err_msg=name)


def test_a_number_stays_a_number() -> None:
    """As a vector of one it would add a dimension to what it picks."""
    nodes = [
        helper.make_node("Add", ["first", "first"], ["second"]),
        helper.make_node("Gather", ["values", "second"], ["picked"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "numbers",
        [helper.make_tensor_value_info("values", 1, ["N", 3])],
        [helper.make_tensor_value_info("picked", 1, [3])],
        [numpy_helper.from_array(np.array(1), "first")],
    )
    folded = Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    assert constants.apply(folded).places == 1
    index = folded.value(folded.nodes[0].input[1])
    assert index is not None
    assert index.shape == ()
