"""Figures of a graph on the test sets, and how often its answers are FP32's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from kniv.server.repository.labels import Labels
from kniv.training.evaluate import Evaluation, Gold
from kniv.training.metrics import macro_f1
from kniv.training.predict import Answers, GraphPredictor, Predictor, answers
from kniv.training.rows import Ints, Row, RowEncoder

FIGURES = ("pos", "ner", "uas", "las", "srl", "cls")
OUTPUTS = {"pos": "pos_logits", "ner": "ner_logits", "head": "arc_scores", "srl": "srl_logits", "cls": "cls_logits"}


@dataclass(frozen=True, slots=True)
class Quality:
    """Judges graphs of one model.

    Attributes:
        evaluation: on the test sets.
        rows: sentences that mark one predicate each, on which answers are compared.
    """

    evaluation: Evaluation
    rows: list[Row]

    @classmethod
    def load(cls, model: Path, data: Path, every: int, compared: int) -> Quality:
        """Read the test sets.

        Args:
            model: version folder with tokenizer.json and labels.json.
            data: folder of public data.
            every: one sentence in so many is kept.
            compared: how many rows answers are compared on.
        """
        labels = Labels.load(model / "labels.json")
        encoder = RowEncoder(Tokenizer.from_file(str(model / "tokenizer.json")))
        gold = replace(Gold.load(data, "test", labels, every), open_acts=[], dailydialog=[])
        rows = []
        for role in gold.roles[:: max(1, len(gold.roles) // compared)]:
            ids, first = encoder.words(role.words)
            if role.predicate < len(first):
                rows.append(Row(ids, first, int(first[role.predicate])))
        return cls(Evaluation(gold, labels, encoder), rows)

    def figures(self, graph: Path) -> dict[str, float]:
        """Figures of ``kniv-train evaluate``, in percent."""
        predictor, evaluation = _Remembering(GraphPredictor(graph)), self.evaluation
        found = evaluation.parsing(predictor) | evaluation.semantic_roles(predictor)
        found["ner"] = evaluation.named_entities(predictor)
        found["cls"] = _macro(evaluation, predictor)
        return {name: 100 * found[name] for name in FIGURES}

    def choices(self, graph: Path) -> dict[str, NDArray[np.int64]]:
        """The best class of every word (of the row, for acts), in the order of :attr:`rows`."""
        predictor = GraphPredictor(graph)
        found: dict[int, dict[str, NDArray[np.int64]]] = {}
        for place, output in answers(predictor, self.rows, tuple(OUTPUTS.values())):
            first = self.rows[place].first
            found[place] = {
                head: np.atleast_1d((values if head == "cls" else values[first]).argmax(-1))
                for head, values in ((head, output[name]) for head, name in OUTPUTS.items())
            }
        return {head: np.concatenate([found[place][head] for place in sorted(found)]) for head in OUTPUTS}


class _Remembering:
    """Keeps the entity logits of rows that are asked for trees: both are judged on nearly the same sentences."""

    def __init__(self, predictor: GraphPredictor) -> None:
        self.rows_at_once, self._predictor = predictor.rows_at_once, predictor
        self._entities: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, ids: Ints, predicates: Ints, outputs: Sequence[str]) -> Answers:
        """See :class:`kniv.training.predict.Predictor`."""
        if "arc_scores" in outputs:
            found = self._predictor(ids, predicates, (*outputs, "ner_logits"))
            self._entities |= {row.tobytes(): logits for row, logits in zip(ids, found["ner_logits"], strict=True)}
            return found
        keys = [row.tobytes() for row in ids]
        if tuple(outputs) == ("ner_logits",) and all(key in self._entities for key in keys):
            return {"ner_logits": np.stack([self._entities[key] for key in keys])}
        return self._predictor(ids, predicates, outputs)


def same(these: dict[str, NDArray[np.int64]], those: dict[str, NDArray[np.int64]]) -> dict[str, float]:
    """Share of equal choices by head, in percent."""
    return {head: 100 * float((these[head] == those[head]).mean()) for head in these}


def _macro(evaluation: Evaluation, predictor: Predictor) -> float:
    acts = evaluation.gold.acts
    return macro_f1([act.label for act in acts], evaluation.dialog_acts(predictor, acts), evaluation.labels.cls)
