"""The protocols, on a small corpus of our own, with predictors whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kniv.server.pipeline.decode import Span
from kniv.server.repository.labels import Labels
from kniv.training.cascade import Cascade
from kniv.training.data.dialog import Utterance
from kniv.training.data.roles import RoleRow
from kniv.training.data.treebank import TreeSentence
from kniv.training.evaluate import Evaluation, Gold
from kniv.training.export import export_graph
from kniv.training.predict import Answers, GraphPredictor, TorchPredictor, answers
from kniv.training.quantise import quantise
from kniv.training.rows import Ints, Row, RowEncoder

WORDS = ("Ann", "saw", "bob", ".")
LONG = tuple("abcde" for _ in range(60))


def tree(words: tuple[str, ...]) -> TreeSentence:
    count = len(words)
    return TreeSentence("s", "", words, ("NOUN",) * count, (0,) * count, ("root",) + ("obj",) * (count - 1))


GOLD = Gold(
    trees=[tree(WORDS), tree(WORDS[:2]), tree(LONG)],
    entities=[(WORDS, [Span(0, 1, "PER"), Span(2, 3, "LOC")]), (WORDS[1:], [])],
    roles=[
        RoleRow("s", WORDS, 1, ("B-ARG0", "V", "B-ARG1", "O"), is_verb=True, is_root=True),
        RoleRow("s", LONG, 59, ("B-ARG0",) + ("O",) * 58 + ("V",), is_verb=True, is_root=False),
    ],
    acts=[Utterance(None, "a.", "inform"), Utterance("b?", "c", "question")],
    open_acts=[Utterance(None, "a.", "inform")],
    dailydialog=[Utterance(None, "a.", "1"), Utterance(None, "b?", "2")],
)


class Oracle:
    """Knows that every word is an object of the first, and the like."""

    rows_at_once: int | None = None

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, ids: Ints, predicates: Ints, outputs: Sequence[str]) -> Answers:
        rows, length = ids.shape
        made = {
            "pos_logits": np.zeros((rows, length, len(self.labels.pos)), dtype=np.float32),
            "ner_logits": np.zeros((rows, length, len(self.labels.ner)), dtype=np.float32),
            "arc_scores": np.zeros((rows, length, length), dtype=np.float32),
            "label_scores": np.zeros((rows, length, length, len(self.labels.deprel)), dtype=np.float32),
            "srl_logits": np.zeros((rows, length, len(self.labels.srl)), dtype=np.float32),
            "cls_logits": np.zeros((rows, len(self.labels.cls)), dtype=np.float32),
        }
        made["pos_logits"][..., self.labels.pos.index("NOUN")] = 1
        made["arc_scores"][..., 1] = 1
        made["label_scores"][..., self.labels.deprel.index("obj")] = 1
        made["ner_logits"][..., 0] = made["srl_logits"][..., 0] = 1
        made["cls_logits"][:, 0] = 1
        return {name: made[name] for name in outputs}


def test_figures_of_known_answers(labels: Labels, encoder: RowEncoder) -> None:
    done: list[int] = []
    found = Evaluation(GOLD, labels, encoder, done.append).run(Oracle(labels))
    cut = len(encoder.words(LONG)[1])
    assert cut < len(LONG)
    right = (4 + 2 + cut) / (4 + 2 + len(LONG))  # what lies beyond the limit is wrong
    assert found["pos"] == found["uas"] == found["las"] == pytest.approx(right)
    assert found["ner"] == found["srl"] == found["srl_root"] == 0
    assert found["cls"] == pytest.approx(2 / 3 / 8)
    assert found["dailydialog"] == 0.5
    assert sum(done) == len(GOLD)


def test_roles_are_scored_without_the_predicate(labels: Labels, encoder: RowEncoder) -> None:
    class Roles(Oracle):
        def __call__(self, ids: Ints, predicates: Ints, outputs: Sequence[str]) -> Answers:
            made = super().__call__(ids, predicates, outputs)
            if "srl_logits" in made:
                made["srl_logits"][:, 1, labels.srl.index("B-ARG0")] = 9
            return made

    found = Evaluation(GOLD, labels, encoder).semantic_roles(Roles(labels))
    assert found["srl_root"] == pytest.approx(2 / 3)  # one of two spans, none wrong
    assert found["srl"] == pytest.approx(2 * 1 / (1 + 3))  # the unreachable row's span counts as missed


def random_rows(seed: int, count: int) -> list[Row]:
    random = np.random.default_rng(seed)
    sizes = random.integers(3, 12, count)
    return [Row(random.integers(5, 40, size), np.arange(1, size - 1), predicate=1) for size in sizes]


def test_graph_and_model_agree_and_batching_changes_nothing(tiny: Cascade, tmp_path: Path) -> None:
    export_graph(tiny, tmp_path / "a.onnx")
    quantise(tmp_path / "a.onnx", tmp_path / "b.onnx")
    rows, names = random_rows(4, 24), ("pos_logits", "srl_logits", "cls_logits")
    torch_model, graph, int8 = TorchPredictor(tiny), *(GraphPredictor(tmp_path / f"{n}.onnx") for n in "ab")
    together = dict(answers(torch_model, rows, names))
    assert sorted(together) == list(range(len(rows)))
    for place, output in answers(graph, rows, names):
        for name in names:
            np.testing.assert_allclose(output[name], together[place][name], atol=1e-4)
    batched = dict(answers(int8, rows, names))
    int8.rows_at_once = 1
    for place, output in answers(int8, rows, names):
        for name in names:
            np.testing.assert_allclose(output[name], batched[place][name], atol=2e-2)


def test_graphs_that_scale_over_the_batch_are_given_single_rows(tiny: Cascade, tmp_path: Path) -> None:
    export_graph(tiny, tmp_path / "a.onnx")
    quantise(tmp_path / "a.onnx", tmp_path / "b.onnx", "published")
    assert GraphPredictor(tmp_path / "a.onnx").rows_at_once is None
    assert GraphPredictor(tmp_path / "b.onnx").rows_at_once == 1
