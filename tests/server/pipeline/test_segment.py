import gzip
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kniv.server.pipeline.segment import LONGEST, Segmenter, Sentence, sentences

DATA = Path(os.environ.get("KNIV_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))
BITS = ("Mr. ", "ok", "end. ", "Then ", "end.Then", "?", "...", "\n", "\n\n", "\r\n", " ", "\u2029", "\x0c", "\x00")
BITS += ("\U0001f469\u200d\U0001f467", "e\u0301", "\ud83d", "\udc69", "x" * 300, " " * 150, "(", '"', "1. ", ":) ")
texts = st.one_of(st.text(st.characters()), st.lists(st.sampled_from(BITS)).map("".join))


def spans(text: str) -> list[str]:
    return [sentence.text for sentence in sentences(text)]


def fed(text: str, cuts: list[int]) -> list[Sentence]:
    segmenter = Segmenter()
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    found = []
    for place, (start, end) in enumerate(pairwise(bounds)):
        found += segmenter.feed(text[start:end], last=place == len(bounds) - 2)
    return found


@given(texts)
@example("a" * 10_000)
@example("a " * 5_000)
@example("\u0301" * 5_000)
@example(" " * 5_000)
def test_sentences_are_the_text_without_outer_white_space(text: str) -> None:
    at = 0
    for sentence in sentences(text):
        assert sentence.start >= at
        assert not text[at : sentence.start].strip()
        at = sentence.start + len(sentence.text)
        assert sentence.text == text[sentence.start : at] == sentence.text.strip()
        assert 0 < len(sentence.text) <= LONGEST
    assert not text[at:].strip()


@given(texts, st.lists(st.integers(min_value=0), max_size=20))
@example("Hi.\r\n\r\nYou" + "x" * 700 + "\u200d" * 300, list(range(0, 1010, 5)))
def test_cutting_changes_nothing(text: str, cuts: list[int]) -> None:
    assert fed(text, cuts) == sentences(text)


@given(texts)
@settings(max_examples=50)
def test_single_characters_change_nothing(text: str) -> None:
    assert fed(text * 3, list(range(len(text) * 3))) == sentences(text * 3)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    path = DATA / "documents.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"][:6_000] for line in lines][::20]


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_cutting_real_documents_changes_nothing(documents: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(documents))
    cuts = data.draw(st.lists(st.integers(min_value=0, max_value=len(text)), max_size=60))
    assert fed(text, cuts) == sentences(text)


def test_a_paragraph_comes_out_once_it_has_ended() -> None:
    segmenter = Segmenter()
    assert segmenter.feed("How are you? I am well.", last=False) == []
    assert [sentence.text for sentence in segmenter.feed("\n\n", last=False)] == ["How are you?", "I am well."]
    assert segmenter.feed("Bye", last=True) == [Sentence(25, "Bye")]


@given(st.sampled_from(["word ", "End. ", "x", "\u0301", "\n", " ", "a\n", "a.B"]))
@settings(max_examples=20, deadline=None)
def test_little_is_held_back(bit: str) -> None:
    """Everything but one sentence, the chunks looked ahead at, and a batch has come out."""
    segmenter = Segmenter()
    seen = 0
    for count in range(1, 2_001):
        for sentence in segmenter.feed(bit * 10, last=False):
            seen = sentence.start + len(sentence.text)
        assert len((bit * 10 * count)[seen:].strip()) <= LONGEST + 4_000


@pytest.mark.parametrize(
    "expected",
    [
        ["ok thanks bye"],
        ["Dr. Smith met Mrs. Jones, e.g. at 3.5 km from J. R. R. Tolkien.", "She left."],
        ["See https://example.com/a.b?c=d now.", "Then mail joe.bloggs@example.org again."],
        ['He said "Go away!" and left.', '"Why?" she asked.', "(She was angry.)", "It was late."],
        ["Apple Inc. reported $3.5 billion in revenue.", "The company grew 5.2% vs. last year."],
        ["hi there!", "how are you?", "im fine thx lol"],
        ["Yes, That works for me.", "Is that OK? :)", "Thanks"],
        ["What?!", "No way!!", "That is crazy."],
    ],
)
def test_ordinary_text(expected: list[str]) -> None:
    assert spans(" ".join(expected)) == expected


def test_short_lines_end_sentences_and_wrapped_lines_do_not() -> None:
    assert spans("hey\nyou there?\nneed help with\norder 12") == ["hey", "you there?", "need help with", "order 12"]
    assert spans("1. First item\n2. Second item") == ["1. First item", "2. Second item"]
    wrapped = "this line is as long as lines are where a program has wrapped them\nfor its author at a column."
    assert spans(wrapped) == [wrapped]


def test_sentences_that_touch_are_parted() -> None:
    assert spans("We left in the end.Then it rained.") == ["We left in the end.", "Then it rained."]
