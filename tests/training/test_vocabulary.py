from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from kniv.training.vocabulary import LOWER, SPECIAL, CasedEmbedding, read_wordpiece

from .conftest import UNCASED, vocabulary


def test_every_cased_piece_knows_its_lower_case_row() -> None:
    words = vocabulary()
    assert len(set(words.pieces)) == len(words.pieces)
    for piece, row, case in zip(words.pieces, words.lower, words.case, strict=True):
        expected = piece if piece in SPECIAL else piece.lower()
        assert words.pieces[row] == expected
        assert (case == LOWER) == (piece == expected)


def test_special_pieces_come_first_and_pad_is_zero() -> None:
    assert vocabulary().pieces[: len(SPECIAL)] == SPECIAL


@given(st.lists(st.sampled_from(["ann", "anna", "b", "zed", "q."]), min_size=1, max_size=6))
def test_case_changes_the_class_of_a_piece_alone(words: list[str]) -> None:
    tokenizer, table = vocabulary().tokenizer(), vocabulary()
    plain, title = (
        tokenizer.encode([form(word) for word in words], is_pretokenized=True).ids for form in (str.lower, str.upper)
    )
    for ids in (plain, title):
        assert tokenizer.token_to_id("[UNK]") not in ids
    if len(plain) == len(title):
        assert [table.lower[i] for i in plain] == [table.lower[i] for i in title]


def test_embedding_starts_as_the_uncased_one() -> None:
    words = vocabulary()
    weights = torch.randn(len(UNCASED), 4)
    embedding = CasedEmbedding.from_uncased(words, weights)
    got = embedding(torch.arange(len(words.pieces)))
    torch.testing.assert_close(got, weights[torch.tensor(words.rows)][torch.tensor(words.lower)])


def test_both_vocabulary_files_are_read() -> None:
    assert read_wordpiece("a\nb\n") == ["a", "b"]
    assert read_wordpiece('{"model": {"vocab": {"b": 1, "a": 0}}}') == ["a", "b"]
