"""The protocols by which a cascade is judged, with the decoders that the server uses.

Gold words are given throughout. Words beyond the length limit are not predicted and count as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kniv.server.pipeline.decode import BioDecoder, Span, relations, spans, tree
from kniv.server.repository.labels import Labels
from kniv.training.data.dialog import DAILYDIALOG, Utterance, read_dailydialog, read_dialog_acts
from kniv.training.data.entities import silver_spans, to_uner
from kniv.training.data.roles import RoleRow, read_roles
from kniv.training.data.treebank import TreeSentence, read_conllu, read_iob2
from kniv.training.metrics import accuracy, macro_f1, span_f1
from kniv.training.predict import Predictor, answers
from kniv.training.rows import Row, RowEncoder

Split = Literal["dev", "test"]
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Gold:
    """One split's gold annotations.

    Attributes:
        trees: UD EWT r2.14.
        entities: words and gold PER/ORG/LOC spans of each sentence of UNER EWT.
        roles: PropBank EWT rows whose predicate is a verb or the root, C-X and R-X folded into X.
        acts: task-dialogue turns.
        open_acts: open-chat utterances (there is a dev set only, which stands in both splits).
        dailydialog: DailyDialog's test set with its own four acts; empty in dev.
    """

    trees: list[TreeSentence]
    entities: list[tuple[tuple[str, ...], list[Span]]]
    roles: list[RoleRow]
    acts: list[Utterance]
    open_acts: list[Utterance]
    dailydialog: list[Utterance]

    @classmethod
    def load(cls, data: Path, split: Split, labels: Labels, every: int = 1) -> Gold:
        """Read a split below ``data``, keeping one sentence in ``every`` of each file."""
        roles = read_roles(data / f"srl_{split}.jsonl.gz", frozenset(labels.srl))
        layer = read_iob2(data / f"uner_ewt_{split}.iob2.gz").values()
        return cls(
            trees=read_conllu(data / "ud-ewt-r2.14" / f"en_ewt-ud-{split}.conllu.gz")[::every],
            entities=[(words, spans(tags)) for words, tags in layer][::every],
            roles=[row for row in roles if row.is_verb or row.is_root][::every],
            acts=read_dialog_acts(data / f"dialog_acts_{split}.jsonl.gz")[::every],
            open_acts=read_dialog_acts(data / "dialog_acts_open_dev.jsonl.gz")[::every],
            dailydialog=read_dailydialog(data / "dailydialog_test.jsonl.gz")[::every] if split == "test" else [],
        )

    def __len__(self) -> int:
        """Rows that an evaluation runs."""
        turns = len(self.acts) + len(self.open_acts) + len(self.dailydialog)
        return len(self.trees) + len(self.entities) + len(self.roles) + turns


class Evaluation:
    """Evaluates predictors that share labels and a tokenizer.

    Args:
        gold: what to compare with.
        labels: the predictors' labels.
        encoder: makes their rows.
        advance: called with the number of rows done as they are.
    """

    def __init__(self, gold: Gold, labels: Labels, encoder: RowEncoder, advance: Advance = lambda rows: None) -> None:
        self.gold, self.labels, self.encoder, self.advance = gold, labels, encoder, advance

    def run(self, predictor: Predictor) -> dict[str, float]:
        """All figures by name, each from 0 to 1."""
        figures = self.parsing(predictor)
        figures |= self.semantic_roles(predictor)
        figures["ner"] = self.named_entities(predictor)
        for name, utterances in (("cls", self.gold.acts), ("cls_open", self.gold.open_acts)):
            gold = [utterance.label for utterance in utterances]
            figures[name] = macro_f1(gold, self.dialog_acts(predictor, utterances), self.labels.cls)
        if self.gold.dailydialog:
            found = [str(DAILYDIALOG[act]) for act in self.dialog_acts(predictor, self.gold.dailydialog)]
            figures["dailydialog"] = accuracy([utterance.label for utterance in self.gold.dailydialog], found)
        return figures

    def parsing(self, predictor: Predictor) -> dict[str, float]:
        """POS accuracy, UAS and LAS over all words, punctuation included, full relations."""
        root = self.labels.deprel.index("root")
        rows = [self._row(sentence.words) for sentence in self.gold.trees]
        words = tags = arcs = labelled = 0
        for place, output in answers(predictor, rows, ("pos_logits", "arc_scores", "label_scores"), self.advance):
            sentence, first = self.gold.trees[place], rows[place].first
            count = len(first)
            pos = output["pos_logits"][first].argmax(-1)
            heads = tree(output["arc_scores"][first[:, None], first])
            kinds = relations(output["label_scores"][first, first[heads]], heads, root)
            words += len(sentence.words)
            tags += sum(self.labels.pos[p] == gold for p, gold in zip(pos, sentence.upos[:count], strict=True))
            attached = heads == np.array(sentence.heads[:count], dtype=np.int64)
            named = [self.labels.deprel[k] == g for k, g in zip(kinds, sentence.deprels[:count], strict=True)]
            arcs += int(attached.sum())
            labelled += int((attached & np.array(named, dtype=bool)).sum())
        return {"pos": tags / words, "uas": arcs / words, "las": labelled / words}

    def named_entities(self, predictor: Predictor) -> float:
        """Micro span F1 on PER, ORG and LOC; finer types are mapped to them and others dropped."""
        decoder = BioDecoder(self.labels.ner)
        rows = [self._row(words) for words, _ in self.gold.entities]
        return span_f1(
            (self.gold.entities[place][1], to_uner(spans(decoder.decode(output["ner_logits"][rows[place].first]))))
            for place, output in answers(predictor, rows, ("ner_logits",), self.advance)
        )

    def semantic_roles(self, predictor: Predictor) -> dict[str, float]:
        """Micro span F1 without V: over verbal predicates ("srl") and over root predicates ("srl_root")."""
        decoder = BioDecoder(self.labels.srl)
        found: list[list[Span]] = [[] for _ in self.gold.roles]
        places, rows = [], []
        for place, role in enumerate(self.gold.roles):
            row = self._row(role.words)
            if role.predicate < len(row.first):
                places.append(place)
                rows.append(replace(row, predicate=int(row.first[role.predicate])))
        for index, output in answers(predictor, rows, ("srl_logits",), self.advance):
            logits = output["srl_logits"][rows[index].first]
            found[places[index]] = spans(decoder.decode(logits, self.gold.roles[places[index]].predicate))
        self.advance(len(self.gold.roles) - len(rows))
        pairs = list(zip(self.gold.roles, found, strict=True))
        return {
            "srl": span_f1((spans(role.tags), guess) for role, guess in pairs if role.is_verb),
            "srl_root": span_f1((spans(role.tags), guess) for role, guess in pairs if role.is_root),
        }

    def dialog_acts(self, predictor: Predictor, utterances: Sequence[Utterance]) -> list[str]:
        """The act of each utterance, given the one before it."""
        found = [""] * len(utterances)
        rows = [Row(self.encoder.pair(u.previous, u.text), np.zeros(0, dtype=np.int64)) for u in utterances]
        for place, output in answers(predictor, rows, ("cls_logits",), self.advance):
            found[place] = self.labels.cls[int(output["cls_logits"].argmax())]
        return found

    def _row(self, words: Sequence[str]) -> Row:
        ids, first = self.encoder.words(words)
        return Row(ids, first)


def baseline(gold: Gold) -> float | None:
    """Micro span F1 of spaCy's small English pipeline on the same words; None where it is not installed."""
    try:
        silver = silver_spans([words for words, _ in gold.entities])
    except (ImportError, OSError):  # spaCy's way to say that a pipeline is missing
        return None
    return span_f1((truth, to_uner(found)) for (_, truth), found in zip(gold.entities, silver, strict=True))
