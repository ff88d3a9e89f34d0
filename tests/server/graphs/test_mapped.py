from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import onnx
import pytest

from kniv.server.graphs.mapped import LEAST, WEIGHTS, mappable, write_mapped
from kniv.server.graphs.pipeline import optimise

from .conftest import Source, batch, run, session
from .contents import contents


def test_large_weights_lie_beside_the_graph_at_pages_of_their_own(source: Source, tmp_path: Path) -> None:
    model = optimise(source.load()).model
    whole = contents(onnx.ModelProto.FromString(model.SerializeToString()))
    large, size = mappable(model), model.ByteSize()
    assert large
    path = tmp_path / "graph"
    write_mapped(model, path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["graph", WEIGHTS]
    assert path.stat().st_size < size - large + 100 * len(model.graph.node)
    bare = onnx.load(path, load_external_data=False).graph.initializer
    stored = [tensor for tensor in bare if tensor.data_location == onnx.TensorProto.EXTERNAL]
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in stored]
    assert sum(int(place["length"]) for place in places) == large
    assert all(int(place["offset"]) % mmap.PAGESIZE == 0 for place in places)
    assert all(len(tensor.raw_data) < LEAST for tensor in bare)
    assert contents(onnx.load(path)) == whole


def test_sessions_answer_the_same_to_the_bit(source: Source, tmp_path: Path) -> None:
    before = session(optimise(source.load()).model)
    write_mapped(optimise(source.load()).model, tmp_path / "graph")
    after = session(tmp_path / "graph")
    feed = batch(3, 4, 17)
    for name, values in run(before, feed).items():
        np.testing.assert_array_equal(run(after, feed)[name], values, err_msg=name)


@pytest.mark.parametrize("blocked", [WEIGHTS, "graph.part"])
def test_what_cannot_be_written_leaves_no_half_of_the_weights_in_the_model(
    published: Source, tmp_path: Path, blocked: str
) -> None:
    model = optimise(published.load()).model
    (tmp_path / blocked).mkdir()
    with pytest.raises(IsADirectoryError):
        write_mapped(model, tmp_path / "graph")
    assert not model.graph.initializer
