from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import Labels
from kniv.server.runtime.session import Session


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
