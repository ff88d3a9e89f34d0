from __future__ import annotations

import numpy as np
import onnxruntime as ort

from kniv.server.graphs import masks
from kniv.server.graphs.graph import Graph

from .conftest import Source, batch, run


def test_padding_is_no_word_s_head(rewritten: ort.InferenceSession) -> None:
    feed = batch(2, 5, 20)
    arcs = run(rewritten, feed)["arc_scores"]
    for row, length in zip(arcs, feed["attention_mask"].sum(1), strict=True):
        assert (row[:length].argmax(-1) < length).all()
        assert (row[:length, length:] < -5e3).all()


def test_every_weight_is_a_number_of_fp16(source: Source) -> None:
    graph = Graph(source.load())
    report = masks.apply(graph)
    graph.prune()
    for name, tensor in graph.weights.items():
        if tensor.data_type == 1:
            value = graph.value(name)
            assert value is not None
            assert np.isfinite(value.astype(np.float16)).all(), name
    assert masks.apply(graph).places == 0
    assert ("arc_scores were masked" in report.note) == (source.path.name != "published.onnx")
