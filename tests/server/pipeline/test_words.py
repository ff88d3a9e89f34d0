import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kniv.server.pipeline.chunks import LONGEST
from kniv.server.pipeline.words import words

BITS = (
    "don't",
    "cannot",
    "U.S.",
    "Mr.",
    "-",
    "http://a.b",
    "a@b.c",
    "3pm",
    "1/2",
    ":)",
    "...",
    " ",
    "\t",
    "\x00",
    "'s",
)
BITS += ("\U0001f469\u200d\U0001f467", "e\u0301", "\ud83d", "\udc69", "\u05e9\u05b8", "\U0001f1e9", "x" * 300, "\u200d")
texts = st.one_of(st.text(st.characters()), st.lists(st.sampled_from(BITS)).map("".join))


def forms(sentence: str) -> list[str]:
    return [sentence[word.start : word.end] for word in words(sentence)]


@given(texts)
@example("a." * 5_000)
@example("a" * 100_000)
@example("\u0301" * 1_000)
def test_every_character_but_white_space_is_in_one_word(text: str) -> None:
    at = 0
    for word in words(text):
        assert at <= word.start < word.end <= word.start + LONGEST
        assert not text[at : word.start].strip()
        assert not any(letter.isspace() for letter in text[word.start : word.end])
        at = word.end
    assert not text[at:].strip()


@given(
    st.lists(st.sampled_from(("a", "e\u0301", "\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "-")), min_size=1)
)
def test_combining_characters_stay_with_what_they_follow(parts: list[str]) -> None:
    text = "".join(parts)
    for word in words(text):
        first = text[word.start]
        assert not unicodedata.combining(first) and first not in "\u200d\U0001f3fd"
        assert text[word.end - 1] != "\u200d"


@pytest.mark.parametrize(
    "split",
    [
        "I do n't know , you can not wo n't .",
        "al - Ani 's friends are gon na win",
        "Dr. Smith left the U.S. on 11/28/2000 at 3 pm .",
        "$ 5.50 or 20 % ( 1,000 km )",
        "mail me@x.com , see www.x.com/a-b?c=1 !",
        "and / or e-mail 713-853-3989",
        "Really ??? Well ... yes :)",
        "the 1990s and the 23rd",
        "I 'd 've gone , it \u2019s late",
        "O'Connell and Shi'ite co-workers at AT&T",
    ],
)
def test_words_are_the_treebank_s(split: str) -> None:
    expected = split.split()
    glued = {",", ".", "'s", "n't", "na", "'d", "'ve", "%", ")", "!", "???", "...", "\u2019s", "not", "pm"}
    text = ""
    for word in expected:
        joined = word in glued or word in "-/" or text.endswith(("-", "/", "$", "("))
        text += word if joined or not text else " " + word
    assert forms(text) == expected


def test_a_full_stop_is_a_word_only_where_it_ends_the_sentence() -> None:
    assert forms("They went to the U.S.") == ["They", "went", "to", "the", "U.S", "."]
    assert forms("U.S. troops left.") == ["U.S.", "troops", "left", "."]
