"""What the rewritten graph has to answer: what the source answers for each row alone, without padding."""

from __future__ import annotations

import numpy as np

from .conftest import Answers, Feed, Source, row, run

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def assert_same(source: Source, answers: Answers, feed: Feed) -> None:
    for index, length in enumerate(feed["attention_mask"].sum(1)):
        wanted = {name: value[0] for name, value in run(source.session, row(feed, index)).items()}
        for name in ("pos_logits", "ner_logits", "srl_logits"):
            np.testing.assert_allclose(answers[name][index, :length], wanted[name], **TOLERANCE, err_msg=name)
        arcs = answers["arc_scores"][index, :length]
        np.testing.assert_allclose(arcs[:, :length], wanted["arc_scores"], **TOLERANCE, err_msg="arc_scores")
        np.testing.assert_allclose(
            answers["cls_logits"][index], wanted["cls_logits"], **TOLERANCE, err_msg="cls_logits"
        )
        labels = wanted["label_scores"]
        if answers["label_scores"].size:
            got = answers["label_scores"][index, :length, :length]
            np.testing.assert_allclose(got, labels, **TOLERANCE, err_msg="label_scores")
        if "relation_scores" in answers:
            best = wanted["arc_scores"].argmax(-1)
            got = answers["relation_scores"][index, :length]
            np.testing.assert_allclose(got, labels[np.arange(length), best], **TOLERANCE, err_msg="relation_scores")


def without_relation(answers: Answers) -> Answers:
    return {name: value for name, value in answers.items() if name != "relation_weight"}
