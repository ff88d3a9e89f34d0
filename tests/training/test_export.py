from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from kniv.training.cascade import Cascade, Outputs
from kniv.training.export import INPUTS, OPSET, export_graph
from kniv.training.reference import Shape, reference

from .conftest import UNCASED, tiny_cascade

Feed = dict[str, NDArray[np.int64]]


@pytest.fixture(scope="module", params=["bert", "deberta"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cascade, Path]:
    torch.manual_seed(1)
    model = tiny_cascade() if request.param == "bert" else reference(Shape(64, 2, 4, 128, vocabulary=60)).eval()
    path = tmp_path_factory.mktemp(request.param) / "sub" / "cascade.onnx"
    export_graph(model, path)
    return model, path


def batch(seed: int, rows: int, length: int, ragged: bool = True) -> Feed:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, length + 1, rows) if ragged else np.full(rows, length)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = random.integers(5, 55, (rows, length)) * mask
    return dict(zip(INPUTS, (ids, mask, random.integers(0, lengths)), strict=True))


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def test_names_types_and_axes_are_the_published_ones(exported: tuple[Cascade, Path]) -> None:
    graph = onnx.load(exported[1])
    assert [(node.name, node.type.tensor_type.elem_type) for node in graph.graph.input] == [
        (name, onnx.TensorProto.INT64) for name in INPUTS
    ]
    assert [(node.name, node.type.tensor_type.elem_type) for node in graph.graph.output] == [
        (name, onnx.TensorProto.FLOAT) for name in Outputs._fields
    ]
    assert {opset.domain: opset.version for opset in graph.opset_import} == {"": OPSET}


@pytest.mark.parametrize(("rows", "length"), [(1, 2), (1, 128), (3, 17), (8, 40), (2, 128)])
def test_graph_equals_the_model(exported: tuple[Cascade, Path], rows: int, length: int) -> None:
    model, path = exported
    feed = batch(length, rows, length)
    real = feed["attention_mask"] > 0
    with torch.no_grad():
        expected = model(*(torch.from_numpy(feed[name]) for name in INPUTS))
    for name, got in zip(Outputs._fields, session(path).run(None, feed), strict=True):
        want = getattr(expected, name).numpy()
        assert got.shape == want.shape
        at = ... if name == "cls_logits" else real
        np.testing.assert_allclose(got[at], want[at], atol=1e-4, rtol=1e-5, err_msg=name)


def test_padding_and_batch_mates_do_not_reach_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "cascade.onnx"
    export_graph(tiny_cascade(), path)
    running, feed = session(path), batch(3, 6, 50)
    together = running.run(None, feed)
    for row, length in enumerate(feed["attention_mask"].sum(1)):
        alone = running.run(
            None,
            {
                "input_ids": feed["input_ids"][row : row + 1, :length],
                "attention_mask": feed["attention_mask"][row : row + 1, :length],
                "predicate_idx": feed["predicate_idx"][row : row + 1],
            },
        )
        for name, padded, bare in zip(Outputs._fields, together, alone, strict=True):
            mine = padded[row]
            for axis in range(bare.ndim - 1):
                if bare.shape[axis + 1] == length and mine.shape[axis] == 50:
                    mine = mine.take(range(length), axis=axis)
            np.testing.assert_allclose(mine, bare[0], atol=1e-4, err_msg=name)


def test_published_heads_do_read_padding() -> None:
    """What the published graphs are known for, and why ours are given lengths."""
    torch.manual_seed(2)
    model = reference(Shape(64, 2, 4, 128, vocabulary=60)).eval()
    ids = torch.randint(5, 55, (1, 6))
    with torch.no_grad():
        bare = model(ids, torch.ones_like(ids), torch.tensor([0])).ner_logits
        longer = torch.nn.functional.pad(ids, (0, 10))
        padded = model(longer, (longer > 0).long(), torch.tensor([0])).ner_logits[:, :6]
    assert not torch.allclose(bare, padded, atol=1e-4)


def test_cased_embedding_stays_three_small_tables(tmp_path: Path) -> None:
    path = tmp_path / "cascade.onnx"
    export_graph(tiny_cascade(), path)
    tables = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer}
    prefix = "encoder.embeddings.word_embeddings."
    pieces = tables[prefix + "lower_of"][0]
    assert pieces > len(UNCASED)
    assert tables[prefix + "case_of"] == (pieces,)
    assert tables[prefix + "pieces.weight"] == (len(UNCASED), 64)
    assert (pieces, 64) not in tables.values()
