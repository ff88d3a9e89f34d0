from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from kniv.server.graphs.contract import TASKS
from kniv.server.graphs.pipeline import optimise

from .conftest import Source, batch, run, session

OUTPUTS = {
    "pos": ("pos_logits",),
    "ner": ("ner_logits",),
    "dep": ("arc_scores", "relation_scores", "relation_dependent", "relation_head"),
    "srl": ("srl_logits",),
    "cls": ("cls_logits",),
    "labels": ("label_scores",),
}
# What the cascade reads: each word head reads those before it.
NEEDED = {
    "pos": {"pos", "ner", "dep", "srl", "labels"},
    "ner": {"ner", "dep", "srl", "labels"},
    "dep": {"dep", "srl", "labels"},
}


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=len(TASKS))), ids=str)
def test_heads_run_when_asked_for_and_answer_the_same(
    rewritten: ort.InferenceSession, source: Source, wanted: tuple[bool, ...]
) -> None:
    feed = batch(1, 3, 14)
    whole, part = run(rewritten, feed), run(rewritten, {**feed, "tasks": np.array(wanted)})
    asked = {task for task, flag in zip(TASKS, wanted, strict=True) if flag}
    for task in TASKS:
        runs = bool(asked & NEEDED.get(task, {task}))
        for name in OUTPUTS[task]:
            if runs:
                np.testing.assert_array_equal(part[name], whole[name], err_msg=name)
            else:
                assert part[name].size == 0
    np.testing.assert_array_equal(part["relation_weight"], whole["relation_weight"])


def test_what_only_label_scores_read_is_not_kept_for_them(source: Source) -> None:
    """[B, S, d + 1, C] out of the tree's branch would lie in memory until the end of every run."""
    model = optimise(source.load()).model
    tree = next(node for node in model.graph.node if node.name == "head_dep")
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tree.output if name not in OUTPUTS["dep"])
    answers = run(session(model), batch(3, 2, 11))
    classes, width, _ = answers["relation_weight"].shape
    assert {"relation_head", "arc_scores"} <= set(tree.output)
    assert max(answers[name].size for name in tree.output) < 2 * 11 * width * classes


def test_the_published_inputs_are_enough(rewritten: ort.InferenceSession) -> None:
    feed = dict(batch(2, 2, 7))
    names = [node.name for node in rewritten.get_outputs()]
    assert not [name for name, value in zip(names, rewritten.run(None, feed), strict=True) if not value.size]
    inputs = [node.name for node in rewritten.get_inputs()]
    assert inputs == ["input_ids", "attention_mask", "predicate_idx"]
    assert [node.name for node in rewritten.get_overridable_initializers()] == ["tasks"]
