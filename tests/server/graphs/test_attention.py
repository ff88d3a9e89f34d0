from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from kniv.server.graphs import attention, lengths, masks
from kniv.server.graphs.attention_match import Matcher
from kniv.server.graphs.constants import apply as fold
from kniv.server.graphs.contract import LONGEST
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.opset import apply as raise_opset
from kniv.server.graphs.pipeline import optimise

from .conftest import Source, batch, run, session


@pytest.fixture(scope="module")
def published_made(make_source: Callable[[str], Source]) -> ort.InferenceSession:
    return session(optimise(make_source("published").load()).model)


def ready(model: onnx.ModelProto) -> Graph:
    graph = Graph(model)
    for step in (raise_opset, fold, lengths.apply, masks.apply):
        step(graph)
    return graph


def test_positions_are_the_graph_s_own(published: Source) -> None:
    matcher = Matcher(ready(published.load()))
    layer = matcher.layer(matcher.softmaxes()[0])
    assert layer.by_query is not None
    assert layer.by_key is not None
    # He et al. 2021: steps of one up to half the buckets, then logarithmic ones; keys look the other way.
    apart = np.arange(LONGEST - 1, -LONGEST, -1)
    near = np.abs(apart) < 128
    np.testing.assert_array_equal(layer.by_query.rows[near], apart[near] + 256)
    assert (np.diff(layer.by_query.rows) <= 0).all()
    assert set(layer.by_query.rows) <= set(range(512))
    np.testing.assert_array_equal(layer.by_key.rows, np.clip(512 - layer.by_query.rows, 0, 511))
    assert layer.heads == 4


def test_nothing_of_the_old_positions_is_left(source: Source) -> None:
    graph = ready(source.load())
    assert attention.apply(graph).places == 2
    kinds = [node.op_type for node in graph.nodes]
    assert "Tile" not in kinds
    assert "GatherElements" not in [node.op_type for node in graph.nodes if "attention" in node.output[0]]
    # One product a layer for queries, keys and values.
    wide = [node for node in graph.nodes if node.op_type == "MatMul" and node.input[1] in graph.weights]
    assert sum(list(graph.weights[node.input[1]].dims) == [64, 192] for node in wide) == 2


def refused(graph: Graph) -> str:
    report = attention.apply(graph)
    assert report.places == 0
    return report.note


def test_positions_that_are_no_distance_are_left_alone(published: Source) -> None:
    graph = ready(published.load())
    for name, tensor in list(graph.weights.items()):
        if tensor.data_type == onnx.TensorProto.INT64 and graph.scalar(name) == 256:
            # The middle of the table: moved by as much as the place itself, the row depends on more than distance.
            moved = graph.add("Shape", ["input_ids"], "moved", start=1, end=2)
            for node in graph.readers(name):
                if node.op_type == "Add":
                    node.input[list(node.input).index(name)] = moved
    graph.touch()
    graph.prune()
    assert "position" in refused(graph)


def test_a_mask_that_lets_padding_in_is_left_alone(published: Source) -> None:
    graph = ready(published.load())
    softmaxes = [node.op_type for node in graph.nodes].count("Softmax")
    for node in graph.nodes:
        if node.op_type == "Not":
            node.op_type = "Identity"
    graph.touch()
    assert "mask" in refused(graph)
    assert [node.op_type for node in graph.nodes].count("Softmax") == softmaxes


@pytest.mark.parametrize("depends_on", ["length", "long rows", "mask"])
def test_a_factor_that_is_no_constant_is_left_alone(published: Source, depends_on: str) -> None:
    graph = ready(published.load())
    if depends_on == "mask":
        total = graph.add("ReduceSum", ["attention_mask"], "real_subwords", keepdims=0)
    else:
        total = graph.add("Squeeze", [graph.add("Shape", ["input_ids"], "longest", start=1, end=2)], "subwords")
        if depends_on == "long rows":  # no other number on rows of a few subwords
            total = graph.add("Max", [total, graph.weight("few", np.array(64))], "at_least")
    factor = graph.add("Sqrt", [graph.add("Cast", [total], "real", to=1)], "factor")
    for node in masks_of(graph):
        node.input[2] = graph.add("Div", [node.input[2], factor], node.output[0] + "_scaled")
    graph.touch()
    graph.prune()
    assert "a term of the scores" in refused(graph)


@settings(deadline=None, max_examples=20)
@given(length=st.integers(LONGEST + 1, LONGEST + 200), rows=st.integers(1, 2))
def test_rows_longer_than_positions_are_tabulated_for_never_get_an_answer(
    published_made: ort.InferenceSession, length: int, rows: int
) -> None:
    with pytest.raises(Exception, match="shape"):  # ONNX Runtime's errors have no common base of their own
        run(published_made, batch(length, rows, length))


def places(graph: Graph) -> str:
    """0 to S - 1."""
    length = graph.add("Squeeze", [graph.add("Shape", ["input_ids"], "longest", start=1, end=2)], "subwords")
    ends = [graph.weight(name, np.array(value)) for name, value in (("first", 0), ("step", 1))]
    return graph.add("Range", [ends[0], length, ends[1]], "places")


def masks_of(graph: Graph) -> list[onnx.NodeProto]:
    makers = [graph.producer(softmax.input[0]) for softmax in Matcher(graph).softmaxes()]
    found = [node for node in makers if node is not None and node.op_type == "Where"]
    assert found
    return found


def test_what_is_added_to_masked_scores_is_not_dropped(published: Source) -> None:
    graph = ready(published.load())
    slope = graph.add("Cast", [places(graph)], "slope", to=1)
    for node in masks_of(graph):
        node.input[2] = graph.add("Add", [node.input[2], slope], node.output[0] + "_sloping")
    graph.touch()
    graph.prune()
    assert "no mask" in refused(graph)


def test_a_window_that_short_rows_do_not_fill_is_left_alone(published: Source) -> None:
    graph = ready(published.load())
    row = places(graph)
    apart = graph.add(
        "Abs", [graph.add("Sub", [row, graph.add("Unsqueeze", [row, graph.ints(1)], "column")], "apart")], "far"
    )
    outside = graph.add("Greater", [apart, graph.weight("window", np.array(64))], "outside")
    for node in masks_of(graph):
        node.input[0] = graph.add("Or", [node.input[0], outside], node.output[0] + "_windowed")
    graph.touch()
    graph.prune()
    assert "mask" in refused(graph)


def test_a_projection_that_is_none_is_left_alone(published: Source) -> None:
    graph = ready(published.load())
    for node in list(graph.nodes):
        if node.op_type == "MatMul" and "query_proj" in node.output[0]:
            weight = node.input[1]
            doubled = graph.add("Add", [weight, weight], weight + "_doubled")
            node.input[1] = doubled
    graph.touch()
    graph.prune()
    assert "linear layer" in refused(graph)


def test_graphs_without_attention_are_skipped_with_a_reason() -> None:
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Cast", ["attention_mask"], ["y"], to=1)],
        "none",
        [helper.make_tensor_value_info("attention_mask", 7, ["B", "S"])],
        [helper.make_tensor_value_info("y", 1, ["B", "S"])],
        [numpy_helper.from_array(np.ones(1, np.float32), "unused")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert refused(Graph(model)) == "no softmax over pairs of subwords"
