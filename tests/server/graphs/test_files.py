from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from kniv.server.graphs.files import write_model


@pytest.mark.parametrize("numbers", [1, 127, 128, 40_000, 300_000])
def test_what_is_written_is_what_was_there(tmp_path: Path, numbers: int) -> None:
    helper = onnx.helper
    weights = {f"w{index}": np.arange(numbers, dtype=np.float32) + index for index in range(3)}
    nodes = [helper.make_node("Add", ["x", name], [f"y{name}"]) for name in weights]
    graph = helper.make_graph(
        nodes,
        "three",
        [helper.make_tensor_value_info("x", 1, [numbers])],
        [helper.make_tensor_value_info(f"y{name}", 1, [numbers]) for name in weights],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    before = onnx.ModelProto.FromString(model.SerializeToString())
    path = tmp_path / "model.onnx"
    write_model(model, path)
    assert onnx.load(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
