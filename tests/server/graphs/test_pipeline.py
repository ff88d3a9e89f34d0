from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.graphs import constants, lengths, masks
from kniv.server.graphs.pipeline import PASSES, optimise, optimise_file

from .compare import assert_same
from .conftest import Source, batch, run, session


@pytest.mark.parametrize("count", range(1, len(PASSES) + 1), ids=[p.__module__.rpartition(".")[2] for p in PASSES])
def test_answers_stay_after_each_pass(source: Source, count: int) -> None:
    done = optimise(source.load(), passes=tuple(dict.fromkeys((lengths.apply, masks.apply, *PASSES[:count]))))
    onnx.checker.check_model(done.model)
    feed = batch(count, 4, 21)
    assert_same(source, run(session(done.model), feed), feed)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), rows=st.integers(1, 8), length=st.integers(2, 48))
def test_answers_are_those_of_each_row_alone(
    source: Source, rewritten: ort.InferenceSession, seed: int, rows: int, length: int
) -> None:
    feed = batch(seed, rows, length)
    assert_same(source, run(rewritten, feed), feed)


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (3, 128), (2, 129), (1, 300), (2, 512)])
def test_long_and_short_rows(source: Source, rewritten: ort.InferenceSession, rows: int, length: int) -> None:
    feed = batch(length, rows, length)
    assert_same(source, run(rewritten, feed), feed)


def test_every_pass_says_what_it_did(source: Source) -> None:
    report = optimise(source.load()).report
    assert [entry.name for entry in report] == [p.__module__.rpartition(".")[2] for p in PASSES] + ["tasks"]
    assert all(entry.note for entry in report)
    places = {entry.name: entry.places for entry in report}
    assert places["attention"] == 2
    assert places["relations"] == 1
    assert places["tasks"] == 6
    assert (places["lengths"] == 0) == ("bert" in source.path.name)


def test_a_second_time_nothing_is_left_to_do(published: Source) -> None:
    model = optimise(published.load()).model
    before = model.SerializeToString(deterministic=True)
    report = optimise(model).report
    assert report[0].note == "the graph has been rewritten before"
    assert not any(entry.places for entry in report)
    assert model.SerializeToString(deterministic=True) == before


def test_weights_are_there_once(source: Source) -> None:
    def size(model: onnx.ModelProto) -> int:
        return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type == 1)

    model = source.load()
    before = size(model)
    constants_of_branches = sum(
        int(np.prod(tensor.dims))
        for node in optimise(model).model.graph.node
        for attribute in node.attribute
        for tensor in attribute.g.initializer
    )
    assert constants_of_branches == 0
    # Beside the source's: two tables of 512 relative positions a layer, and the relation weight for the decoder.
    assert size(model) <= before + 2 * 2 * 512 * 64 + 53 * 9 * 9 + 4096


def test_file_to_file(published: Source, tmp_path: Path) -> None:
    target = tmp_path / "cascade.onnx"
    report = optimise_file(published.path, target)
    assert [entry.name for entry in report][-1] == "tasks"
    assert [path.name for path in tmp_path.iterdir()] == ["cascade.onnx"]
    onnx.checker.check_model(target)
    feed = batch(4, 2, 9)
    assert_same(published, run(session(target), feed), feed)


def test_a_graph_of_another_kind_is_left_as_it_is() -> None:
    helper = onnx.helper
    node = helper.make_node("Relu", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", "S"]) for name in "xy"]
    graph = helper.make_graph([node], "other", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    done = optimise(model)
    assert not any(entry.places for entry in done.report)
    assert [node.op_type for node in done.model.graph.node] == ["Relu"]


def test_passes_run_alone(source: Source) -> None:
    for step in (constants.apply, lengths.apply):
        assert optimise(source.load(), passes=(step,)).report[0].name == step.__module__.rpartition(".")[2]
