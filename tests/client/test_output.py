"""Sentences as drawings, JSON and CoNLL-U."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.client import (
    Argument,
    DialogAct,
    Entity,
    Frame,
    LabelScore,
    ModelReference,
    Sentence,
    Timings,
    Token,
    render,
    to_conllu,
    to_json,
)

ADA = Sentence(
    index=0,
    start=0,
    end=26,
    text="Ada Byron didn't\nsee   it.",
    tokens=(
        Token("Ada", 0, 3, "PROPN", 4, "nsubj"),
        Token("Byron", 4, 9, "PROPN", 0, "flat"),
        Token("did", 10, 13, "AUX", 4, "aux"),
        Token("n't", 13, 16, "PART", 4, "advmod"),
        Token("see", 17, 20, "VERB", 4, "root"),
        Token("it", 23, 25, "PRON", 4, "obj"),
        Token(".", 25, 26, "PUNCT", 4, "punct"),
    ),
    entities=(Entity("PERSON", 0, 2, 0, 9, "Ada Byron"),),
    frames=(Frame(4, (Argument("ARG0", 0, 2, 0, 9, "Ada Byron"), Argument("ARGM-NEG", 3, 4, 13, 16, "n't"))),),
    dialog_act=DialogAct("statement", 0.875, (LabelScore("statement", 0.875), LabelScore("question", 0.125))),
    windowed=False,
    model=ModelReference("kniv-mini", 1, "int8"),
    timings=Timings(0.001, 0.002, 0.003),
)

words = st.text(min_size=1, max_size=8)
tags = st.sampled_from(["NOUN", "VERB", "X"])


@st.composite
def sentences(draw):
    """Any words in a tree, with and without space between them."""
    forms = draw(st.lists(words, min_size=1, max_size=8))
    tokens, start = [], draw(st.integers(0, 100))
    root = draw(st.integers(0, len(forms) - 1))
    for place, form in enumerate(forms):
        relation = "root" if place == root else "dep"
        tokens.append(Token(form, start, start + len(form), draw(tags), root, relation))
        start += len(form) + draw(st.integers(0, 2))
    cut = draw(st.integers(0, len(forms) - 1))
    entity = Entity("ORG", cut, len(forms), tokens[cut].start, tokens[-1].end, forms[cut])
    frame = Frame(root, (Argument("ARG1", cut, len(forms), tokens[cut].start, tokens[-1].end, forms[cut]),))
    text = draw(st.text())
    return replace(ADA, text=text, tokens=tuple(tokens), entities=(entity,), frames=(frame,))


def test_a_drawn_sentence():
    assert render(ADA).splitlines() == [
        "Ada Byron didn't see it.",
        " ╭─┬─  0  Ada    PROPN  nsubj   PERSON",
        " │ ╰─  1  Byron  PROPN  flat    ┊",
        " ├───  2  did    AUX    aux",
        " ├───  3  n't    PART   advmod",
        "─┼───  4  see    VERB   root",
        " ├───  5  it     PRON   obj",
        " ╰───  6  .      PUNCT  punct",
        "  frame  see  ARG0 Ada Byron · ARGM-NEG n't",
        "  act    statement 0.88",
    ]


def test_what_was_not_asked_for_takes_no_room():
    tokens = tuple(replace(token, upos=None, head=None, relation=None) for token in ADA.tokens[:2])
    bare = replace(ADA, tokens=tokens, entities=(), frames=(), dialog_act=None)
    assert render(bare).splitlines() == ["Ada Byron didn't see it.", "0  Ada", "1  Byron"]


def test_colour_changes_nothing_else():
    colored = render(ADA, color=True)
    assert "\x1b[36mPROPN\x1b[0m" in colored
    lines = re.sub(r"\x1b\[[\d;]*m", "", colored).splitlines()
    assert [line.rstrip() for line in lines] == render(ADA).splitlines()


def test_wide_and_zero_width_signs_keep_columns_straight():
    tokens = (Token("日本", 0, 2, "X", 0, "root"), Token("e\u0301t", 2, 5, "X", 0, "dep"))
    rows = render(replace(ADA, text="", tokens=tokens, entities=(), frames=(), dialog_act=None)).splitlines()[1:]
    assert rows == ["─┬─  0  日本  X  root", " ╰─  1  e\u0301t    X  dep"]


@given(sentences(), st.booleans())
def test_drawings_cannot_steer_a_terminal(sentence, ascii_only):
    drawn = render(sentence, ascii_only=ascii_only)
    assert drawn.count("\n") == len(sentence.tokens) + 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", drawn)
    if ascii_only:
        assert not set(drawn) & set("╭╰├┬┴┼─│╫┊") - set(sentence.text) - {s for t in sentence.tokens for s in t.text}


def test_json_has_every_field():
    line = to_json(ADA)
    assert "\n" not in line
    value = json.loads(line)
    assert value["tokens"][0] == {
        "text": "Ada",
        "start": 0,
        "end": 3,
        "upos": "PROPN",
        "head": 4,
        "relation": "nsubj",
    }
    assert value["frames"][0]["arguments"][1]["role"] == "ARGM-NEG"
    assert value["dialog_act"]["scores"][1] == {"label": "question", "score": 0.125}
    assert value["model"]["name"] == "kniv-mini"
    assert value["timings"]["total_s"] == 0.003


def test_conllu():
    assert to_conllu(ADA, "doc-1").splitlines() == [
        "# sent_id = doc-1",
        "# text = Ada Byron didn't see it.",
        "# dialog_act = statement",
        "# frame = 5 ARG0=1-2 ARGM-NEG=4-4",
        "1\tAda\t_\tPROPN\t_\t_\t5\tnsubj\t_\tEntity=B-PERSON",
        "2\tByron\t_\tPROPN\t_\t_\t1\tflat\t_\tEntity=I-PERSON",
        "3\tdid\t_\tAUX\t_\t_\t5\taux\t_\tSpaceAfter=No",
        "4\tn't\t_\tPART\t_\t_\t5\tadvmod\t_\t_",
        "5\tsee\t_\tVERB\t_\t_\t0\troot\t_\t_",
        "6\tit\t_\tPRON\t_\t_\t5\tobj\t_\tSpaceAfter=No",
        "7\t.\t_\tPUNCT\t_\t_\t5\tpunct\t_\t_",
        "",
    ]


def test_conllu_without_a_tree_has_placeholders():
    bare = replace(ADA, tokens=(Token("Hi", 0, 2, None, None, None),), entities=(), frames=(), dialog_act=None)
    assert to_conllu(bare).splitlines()[-2] == "1\tHi\t_\t_\t_\t_\t_\t_\t_\t_"


@given(sentences())
def test_conllu_is_valid_whatever_the_words(sentence):
    block = to_conllu(sentence)
    assert block.endswith("\n\n")
    lines = block.splitlines()
    assert lines.pop() == ""
    assert "" not in lines
    comments = [line for line in lines[:4] if line.startswith("# ")]
    assert comments[0] == "# sent_id = 1"
    rows = [line.split("\t") for line in lines[len(comments) :]]
    assert [row[0] for row in rows] == [str(number + 1) for number in range(len(sentence.tokens))]
    assert all(len(row) == 10 for row in rows)
    assert all(field and field == field.strip() for row in rows for field in row)
    assert [row[7] for row in rows if row[6] == "0"] == ["root"]
    assert all(0 <= int(row[6]) <= len(rows) for row in rows)
    text = "".join(row[1] + ("" if "SpaceAfter=No" in row[9] else " ") for row in rows)
    assert comments[1] == f"# text = {text.rstrip()}"


@pytest.mark.parametrize("value", ["a|b", "a b"])
def test_entity_types_fit_into_misc(value):
    odd = replace(ADA, entities=(Entity(value, 0, 1, 0, 3, "Ada"),))
    assert "|" not in to_conllu(odd).splitlines()[4].split("\t")[9]
