from __future__ import annotations

import gzip
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.pipeline.decode import Span, spans
from kniv.server.repository.labels import Labels
from kniv.training.data.dialog import DAILYDIALOG
from kniv.training.data.entities import bio, correct, to_uner
from kniv.training.data.roles import fold, read_roles
from kniv.training.data.treebank import read_conllu, read_iob2
from kniv.training.evaluate import Gold

CONLLU = """\
# sent_id = s1
# text = Don't go.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\t_\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\t_\t_\t0\troot\t_\t_
3.1\tnow\tnow\tADV\t_\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_
"""


def disjoint(length: int, kinds: tuple[str, ...]) -> st.SearchStrategy[list[Span]]:
    cuts = st.lists(st.integers(0, length), unique=True, max_size=8).map(sorted)
    names = st.lists(st.sampled_from(kinds), min_size=4, max_size=4)
    return st.tuples(cuts, names).map(
        lambda drawn: [Span(*drawn[0][2 * i : 2 * i + 2], drawn[1][i]) for i in range(len(drawn[0]) // 2)]
    )


@given(disjoint(12, ("PERSON", "DATE")))
def test_bio_and_spans_undo_each_other(found: list[Span]) -> None:
    assert spans(bio(found, 12)) == found


@given(disjoint(12, ("PERSON", "GPE", "FAC", "ORG", "DATE", "MONEY")), disjoint(12, ("PER", "LOC", "ORG")))
def test_corrected_layer_has_exactly_the_gold_spans_of_gold_types(silver: list[Span], gold: list[Span]) -> None:
    merged = correct(silver, gold)
    assert to_uner(merged) == gold
    assert spans(bio(merged, 12)) == merged


def test_treebank_skips_multiword_tokens_and_empty_nodes(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress(CONLLU.encode()))
    (tree,) = read_conllu(path)
    assert tree.words == ("Do", "n't", "go", ".")
    assert tree.heads == (2, 2, 2, 2)
    assert tree.deprels == ("aux", "advmod", "root", "punct")


def test_iob2(tmp_path: Path) -> None:
    path = tmp_path / "a.iob2"
    path.write_text("# sent_id = s1\n1\tAnn\tB-PER\t-\tx\n2\tsaw\tO\t-\tx\n\n", "utf-8")
    assert read_iob2(path) == {"s1": (("Ann", "saw"), ("B-PER", "O"))}


def test_roles_are_folded() -> None:
    known = frozenset(["O", "V", "B-ARG0", "I-ARG0", "B-ARG1"])
    raw = ["B-R-ARG0", "I-R-ARG0", "B-V", "I-V", "B-C-ARG1", "B-ARGA", "O"]
    assert fold(raw, 2, known) == ("B-ARG0", "I-ARG0", "V", "O", "B-ARG1", "O", "O")


def test_dailydialog_mapping_covers_the_acts(data: Path) -> None:
    assert set(DAILYDIALOG) == set(Labels.load(data / "labels.json").cls)


def test_test_sets_have_the_documented_sizes(data: Path) -> None:
    labels = Labels.load(data / "labels.json")
    gold = Gold.load(data, "test", labels)
    assert len(gold.trees) == 2077
    assert sum(len(tree.words) for tree in gold.trees) == 25094
    assert {kind for tree in gold.trees for kind in tree.deprels} <= set(labels.deprel)
    counts = {kind: sum(s.label == kind for _, found in gold.entities for s in found) for kind in ("PER", "LOC", "ORG")}
    assert counts == {"PER": 449, "LOC": 317, "ORG": 322}
    assert (len(gold.acts), len(gold.open_acts), len(gold.dailydialog)) == (4000, 500, 7740)
    roles = read_roles(data / "srl_test.jsonl.gz", frozenset(labels.srl))
    assert (len(roles), sum(r.is_verb for r in roles), sum(r.is_root for r in roles)) == (4795, 2512, 1266)
    assert all(row.tags.count("V") == 1 and row.tags[row.predicate] == "V" for row in roles)
