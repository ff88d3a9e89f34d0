"""The training corpus: which rows a cascade is fitted on, read from one data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kniv.server.pipeline.decode import spans
from kniv.server.repository.labels import Labels
from kniv.training.data.dialog import Utterance, read_dialog_acts
from kniv.training.data.entities import bio, correct, silver_spans
from kniv.training.data.roles import RoleRow, read_roles
from kniv.training.data.treebank import TreeSentence, read_conllu, read_iob2
from kniv.training.rows import Row, RowEncoder

WRITTEN = Path(__file__).parent / "data" / "dialog_acts_written.jsonl"


@dataclass(frozen=True, slots=True)
class Mixture:
    """How many rows of each kind one round of training sees.

    Attributes:
        verbs: share of the verbal predicates' rows.
        other_predicates: share of the non-verbal predicates' rows.
        task_turns: number of task-dialogue (SGD) turns.
        open_repeats: times that the open-chat utterances are seen.
        written_repeats: times that the utterances written for this project are seen.
    """

    verbs: float = 1.0
    other_predicates: float = 0.2
    task_turns: int = 9000
    open_repeats: int = 2
    written_repeats: int = 0


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows by kind, ready to batch."""

    trees: list[Row]
    verbs: list[Row]
    other_predicates: list[Row]
    task_turns: list[Row]
    open_turns: list[Row]
    written_turns: list[Row]

    def round(self, mixture: Mixture, random: np.random.Generator) -> list[list[Row]]:
        """The rows of one round, as three groups that batch separately: trees, predicates, turns."""
        others = _sample(self.other_predicates, int(len(self.other_predicates) * mixture.other_predicates), random)
        turns = _sample(self.task_turns, mixture.task_turns, random) + self.open_turns * mixture.open_repeats
        turns += self.written_turns * mixture.written_repeats
        verbs = _sample(self.verbs, int(len(self.verbs) * mixture.verbs), random)
        return [self.trees, verbs + others, turns]


def load_corpus(data: Path, labels: Labels, encoder: RowEncoder) -> Corpus:
    """Read the training splits below ``data`` (see the data folder's README for the files)."""
    trees = read_conllu(data / "ud-ewt-r2.14" / "en_ewt-ud-train.conllu.gz")
    entities = entity_layer(trees, data / "uner_ewt_train.iob2.gz")
    by_id = {tree.sent_id: tree for tree in trees}
    roles = read_roles(data / "srl_train.jsonl.gz", frozenset(labels.srl))
    predicates = [(row, _role_row(row, by_id.get(row.sent_id), entities, labels, encoder)) for row in roles]
    return Corpus(
        trees=[_tree_row(tree, entities[tree.sent_id], labels, encoder) for tree in trees],
        verbs=[row for role, row in predicates if row is not None and role.is_verb],
        other_predicates=[row for role, row in predicates if row is not None and not role.is_verb],
        task_turns=turn_rows(read_dialog_acts(data / "dialog_acts_train.jsonl.gz"), labels, encoder),
        open_turns=turn_rows(read_dialog_acts(data / "dialog_acts_open_train.jsonl.gz"), labels, encoder),
        written_turns=turn_rows(read_dialog_acts(WRITTEN), labels, encoder),
    )


def entity_layer(trees: list[TreeSentence], gold_path: Path) -> dict[str, tuple[str, ...]]:
    """18-type BIO tags a sentence: silver spans corrected by the gold spans where the words agree."""
    gold = read_iob2(gold_path)
    layer = {}
    for tree, silver in zip(trees, silver_spans([tree.words for tree in trees]), strict=True):
        words, tags = gold.get(tree.sent_id, ((), ()))
        merged = correct(silver, spans(tags)) if words == tree.words else silver
        layer[tree.sent_id] = bio(merged, len(tree.words))
    return layer


def _tree_layers(tree: TreeSentence, entities: tuple[str, ...], labels: Labels) -> dict[str, list[int]]:
    return {
        "pos": [labels.pos.index(tag) for tag in tree.upos],
        "ner": [labels.ner.index(tag) for tag in entities],
        "deprel": [labels.deprel.index(relation) for relation in tree.deprels],
    }


def _tree_row(tree: TreeSentence, entities: tuple[str, ...], labels: Labels, encoder: RowEncoder) -> Row:
    row = encoder.labelled(tree.words, _tree_layers(tree, entities, labels), tree.heads)
    assert row is not None  # only a marked predicate can be out of reach
    return row


def _role_row(
    role: RoleRow,
    tree: TreeSentence | None,
    entities: dict[str, tuple[str, ...]],
    labels: Labels,
    encoder: RowEncoder,
) -> Row | None:
    """A predicate's row, with its sentence's other layers where the treebank has the same words."""
    layers = {"srl": [labels.srl.index(tag) for tag in role.tags]}
    if tree is None or tree.words != role.words:
        return encoder.labelled(role.words, layers, predicate=role.predicate)
    layers |= _tree_layers(tree, entities[tree.sent_id], labels)
    return encoder.labelled(role.words, layers, tree.heads, role.predicate)


def turn_rows(utterances: list[Utterance], labels: Labels, encoder: RowEncoder) -> list[Row]:
    """Rows of the pair (previous utterance, this one)."""
    return [
        Row(encoder.pair(u.previous, u.text), np.zeros(0, dtype=np.int64), act=labels.cls.index(u.label))
        for u in utterances
    ]


def _sample(rows: list[Row], count: int, random: np.random.Generator) -> list[Row]:
    chosen = random.choice(len(rows), size=min(count, len(rows)), replace=False)
    return [rows[index] for index in chosen]
