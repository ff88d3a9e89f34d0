from __future__ import annotations

import numpy as np
import onnxruntime as ort

from kniv.server.graphs import masks, relations
from kniv.server.graphs.graph import Graph

from .conftest import Source, batch, row, run


def test_any_other_head_is_scored_by_what_comes_with_it(source: Source, rewritten: ort.InferenceSession) -> None:
    feed = batch(5, 3, 17)
    answers = run(rewritten, feed)
    for index, length in enumerate(feed["attention_mask"].sum(1)):
        labels = run(source.session, row(feed, index))["label_scores"][0]
        dependent, head = (answers[f"relation_{side}"][index, :length] for side in ("dependent", "head"))
        got = np.einsum("si,cij,tj->stc", dependent, answers["relation_weight"], head)
        np.testing.assert_allclose(got, labels, atol=1e-4, rtol=1e-4)


def test_scores_stand_at_the_best_head(rewritten: ort.InferenceSession) -> None:
    feed = batch(6, 4, 9)
    answers = run(rewritten, feed)
    best = answers["arc_scores"].argmax(-1)
    head = np.take_along_axis(answers["relation_head"], best[..., None], axis=1)
    got = np.einsum("bsi,cij,bsj->bsc", answers["relation_dependent"], answers["relation_weight"], head)
    np.testing.assert_allclose(answers["relation_scores"], got, atol=1e-4, rtol=1e-4)


def test_labels_read_elsewhere_are_left_alone(published: Source) -> None:
    graph = Graph(published.load())
    masks.apply(graph)
    for node in graph.nodes:
        if node.op_type == "ArgMax":
            node.op_type = "ArgMin"
    graph.touch()
    report = relations.apply(graph)
    assert (report.places, report.note) == (0, "label_scores are read at other places than the best head")
    assert "label_scores" in graph.outputs


def test_an_index_with_an_upper_end_is_not_the_best_head(published: Source) -> None:
    """Exporters write a clip at zero, which changes nothing; one at the other end would."""
    graph = Graph(published.load())
    masks.apply(graph)
    best = next(node.output[0] for node in graph.nodes if node.op_type == "ArgMax")
    clip = next(node for node in graph.nodes if node.op_type == "Clip" and node.input[0] == best)
    clip.input[2] = graph.weight("end", np.array(3))
    graph.touch()
    report = relations.apply(graph)
    assert (report.places, report.note) == (0, "label_scores are read at other places than the best head")
