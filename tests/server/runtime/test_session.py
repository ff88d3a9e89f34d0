from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import Labels
from kniv.server.runtime.session import OUTPUTS, Session


def test_a_graph_that_does_not_fit_its_labels_is_refused_by_output(tiny: Path) -> None:
    labels = Labels.load(tiny / "labels.json")
    for name, output in (("pos", "pos_logits"), ("deprel", "label_scores"), ("cls", "cls_logits")):
        other = replace(labels, **{name: getattr(labels, name)[:-1]})
        with pytest.raises(RepositoryError, match=output):
            Session(tiny / "cascade.onnx").check(other, 100, 16)


@pytest.mark.parametrize("keep", [0, 100, 50_000])
def test_a_truncated_graph_is_refused_by_file(tiny: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cascade.onnx"
    path.write_bytes((tiny / "cascade.onnx").read_bytes()[:keep])
    with pytest.raises(RepositoryError, match=r"cascade\.onnx"):
        Session(path)


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path, tiny: Path) -> None:
    onnx = pytest.importorskip("onnx")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(RepositoryError, match="inputs"):
        Session(tmp_path / "other.onnx")


@given(st.sets(st.sampled_from(OUTPUTS), min_size=1), st.integers(1, 4), st.integers(1, 40), st.integers(0, 9))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_heads_that_are_run_alone_say_what_they_say_with_all_others(
    sessions: tuple[Session, ort.InferenceSession], wanted: set[str], rows: int, length: int, seed: int
) -> None:
    ours, plain = sessions
    random = np.random.default_rng(seed)
    ids, predicates = random.integers(5, 100, (rows, length)), random.integers(0, length, rows)
    mask = (np.arange(length) < random.integers(1, length + 1, (rows, 1))).astype(np.int64)
    feed = {"input_ids": ids, "attention_mask": mask, "predicate_idx": predicates}
    expected = dict(zip(OUTPUTS, plain.run(list(OUTPUTS), feed), strict=True))
    whole = ours.run(ids, mask, predicates, OUTPUTS)
    for name, values in ours.run(ids, mask, predicates, tuple(sorted(wanted))).items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)
        real = mask.astype(bool)
        got, source = (one if name == "cls_logits" else one[real] for one in (values, expected[name]))
        np.testing.assert_allclose(got, source, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def sessions(tiny: Path) -> tuple[Session, ort.InferenceSession]:
    """One graph as the server runs it, and as ONNX Runtime does by itself."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = tiny / "cascade.onnx"
    return Session(path), ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
