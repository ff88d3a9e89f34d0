from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kniv.training.rows import IGNORED, MAX_PREVIOUS, MAX_SUBWORDS, Row, RowEncoder, by_tokens, collate

from .conftest import vocabulary

ENCODER = RowEncoder(vocabulary().tokenizer())
words = st.lists(st.text("abcdeANNé.𝄞", min_size=1, max_size=9), min_size=1, max_size=60)


@given(words)
def test_every_word_within_the_limit_has_a_first_subword(sentence: list[str]) -> None:
    ids, first = ENCODER.words(sentence)
    assert len(ids) <= MAX_SUBWORDS
    assert ids[0] == ENCODER.cls
    assert ids[-1] == ENCODER.sep
    assert (np.diff(first) > 0).all()
    assert len(first) <= len(sentence)
    if len(first) < len(sentence):
        rest = ENCODER.tokenizer.encode([sentence[len(first)]], is_pretokenized=True, add_special_tokens=False)
        assert len(ids) + len(rest.ids) > MAX_SUBWORDS


@given(words)
def test_words_are_encoded_as_the_tokenizer_does(sentence: list[str]) -> None:
    ids, first = ENCODER.words(sentence)
    whole = ENCODER.tokenizer.encode(sentence, is_pretokenized=True)
    if len(whole.ids) <= MAX_SUBWORDS and len(set(whole.word_ids) - {None}) == len(sentence):
        assert list(ids) == whole.ids
        assert [whole.word_ids.index(word) for word in range(len(sentence))] == list(first)


@given(st.text("abc A.", max_size=400), st.none() | st.text("abc A.", max_size=400))
def test_pairs_keep_the_end_of_the_previous_turn_and_the_start_of_this(text: str, previous: str | None) -> None:
    ids = list(ENCODER.pair(previous, text))
    assert len(ids) <= MAX_SUBWORDS
    own = ENCODER.tokenizer.encode(text, add_special_tokens=False).ids
    before = [] if previous is None else ENCODER.tokenizer.encode(previous, add_special_tokens=False).ids
    assert ids.count(ENCODER.sep) == (1 if previous is None else 2)
    if len(own) + len(before) + 3 <= MAX_SUBWORDS and len(before) <= MAX_PREVIOUS:
        given_texts = (text,) if previous is None else (previous, text)
        assert ids == ENCODER.tokenizer.encode(*given_texts).ids


@settings(deadline=None)
@given(st.lists(st.integers(2, 50), min_size=1, max_size=60), st.integers(50, 300), st.none() | st.integers(0, 99))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int, seed: int | None) -> None:
    rows = [Row(np.arange(length), np.zeros(0, dtype=np.int64)) for length in lengths]
    batches = by_tokens(rows, budget, None if seed is None else np.random.default_rng(seed))
    assert sorted(id(row) for batch in batches for row in batch) == sorted(map(id, rows))
    assert all(len(batch) * max(len(row.ids) for row in batch) <= budget for batch in batches)


def test_collate_pads_and_ignores_what_a_row_lacks() -> None:
    long = ENCODER.labelled(["ab", "c"], {"pos": [0, 1]}, heads=[1, 1])
    short = ENCODER.labelled(["c"], {"srl": [3]}, predicate=0)
    assert long is not None
    assert short is not None
    batch = collate([long, short])
    length = len(long.ids)
    assert batch.mask.sum(1).tolist() == [length, 3]
    assert (batch.ids[1, 3:] == 0).all()
    assert (batch.layers["pos"][1] == IGNORED).all()
    assert batch.layers["srl"][1].tolist() == [IGNORED, 3] + [IGNORED] * (length - 2)
    assert batch.predicate.tolist() == [0, 1]
    first = long.first
    assert batch.layers["head"][0][first].tolist() == [first[1], first[1]]


def test_a_predicate_beyond_the_limit_has_no_row() -> None:
    sentence = ["abcde"] * 60
    assert ENCODER.labelled(sentence, {}, predicate=59) is None
    assert ENCODER.labelled(sentence, {}, predicate=3) is not None
