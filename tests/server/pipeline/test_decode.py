"""The decoders against enumeration of everything they could have answered."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kniv.server.pipeline import decode
from kniv.server.pipeline.decode import BioDecoder, Floats, Ints, Span, relations, spans, tree

NER = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SRL = ("O", "V", "B-ARG0", "I-ARG0", "B-ARG1", "I-ARG1")


def scores(seed: int, shape: tuple[int, ...], ties: bool) -> Floats:
    random = np.random.default_rng(seed)
    if ties:
        return random.integers(-2, 3, shape).astype(np.float32)
    return (random.standard_normal(shape) * 5).astype(np.float32)


def valid(tags: tuple[str, ...]) -> bool:
    before = ("O", *tags)
    return all(not tag.startswith("I-") or last[2:] == tag[2:] for last, tag in zip(before, tags, strict=False))


def best_total(logits: Floats, labels: tuple[str, ...], predicate: int | None) -> float:
    def allowed(tags: tuple[str, ...]) -> bool:
        return valid(tags) and all((tag == "V") == (place == predicate) for place, tag in enumerate(tags))

    paths = product(range(len(labels)), repeat=len(logits))
    return max(
        sum(logits[word, index] for word, index in enumerate(path))
        for path in paths
        if allowed(tuple(labels[index] for index in path))
    )


def total(logits: Floats, tags: tuple[str, ...], labels: tuple[str, ...]) -> float:
    return sum(logits[word, labels.index(tag)] for word, tag in enumerate(tags))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_tags_are_the_best_valid_sequence(seed: int, words: int, ties: bool) -> None:
    logits = scores(seed, (words, len(NER)), ties)
    tags = BioDecoder(NER).decode(logits)
    assert valid(tags)
    assert total(logits, tags, NER) == pytest.approx(best_total(logits, NER, None), abs=1e-4)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans(), st.data())
def test_the_predicate_alone_is_v(seed: int, words: int, ties: bool, data: st.DataObject) -> None:
    logits = scores(seed, (words, len(SRL)), ties)
    predicate = data.draw(st.none() | st.integers(0, words - 1))
    tags = BioDecoder(SRL).decode(logits, predicate)
    assert valid(tags)
    assert [place for place, tag in enumerate(tags) if tag == "V"] == ([] if predicate is None else [predicate])
    assert total(logits, tags, SRL) == pytest.approx(best_total(logits, SRL, predicate), abs=1e-4)


def plain_viterbi(logits: Floats, labels: tuple[str, ...], predicate: int | None) -> float:
    """Score of the best path, every label after every other that it may follow."""
    total = np.array([0.0 if label == "O" else -np.inf for label in labels])
    follows = [[not other.startswith("I-") or one[2:] == other[2:] for other in labels] for one in labels]
    for word, gains in enumerate(logits):
        total = np.where(follows, total[:, None], -np.inf).max(0) + gains
        total[[(label == "V") != (word == predicate) for label in labels]] = -np.inf
    return float(total.max())


@given(st.integers(0, 10**6), st.integers(6, 60), st.booleans(), st.data())
def test_tags_of_long_sentences_are_the_best_too(seed: int, words: int, ties: bool, data: st.DataObject) -> None:
    logits = scores(seed, (words, len(SRL)), ties)
    predicate = data.draw(st.none() | st.integers(0, words - 1))
    tags = BioDecoder(SRL).decode(logits, predicate)
    assert valid(tags)
    assert [place for place, tag in enumerate(tags) if tag == "V"] == ([] if predicate is None else [predicate])
    assert total(logits, tags, SRL) == pytest.approx(plain_viterbi(logits, SRL, predicate), abs=1e-3)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_labels_without_spans_of_several_words(seed: int, words: int) -> None:
    labels = ("O", "V", "B-PER")
    logits = scores(seed, (words, len(labels)), ties=False)
    assert BioDecoder(labels).decode(logits, 0)[1:] == tuple(
        "O" if score[0] >= score[2] else "B-PER" for score in logits[1:]
    )


def test_scores_given_are_left_as_they_are() -> None:
    logits = scores(1, (4, len(SRL)), ties=False)
    before = logits.copy()
    BioDecoder(SRL).decode(logits, 2)
    assert (logits == before).all()


def test_no_words_no_tags() -> None:
    assert BioDecoder(NER).decode(np.zeros((0, len(NER)), dtype=np.float32)) == ()


def test_spans_of_broken_sequences() -> None:
    assert spans(["I-PER", "I-PER", "I-LOC", "O", "B-LOC", "B-LOC", "I-LOC"]) == [
        Span(0, 2, "PER"),
        Span(2, 3, "LOC"),
        Span(4, 5, "LOC"),
        Span(5, 7, "LOC"),
    ]
    assert spans(["V", "O", "B-ARG0"]) == [Span(2, 3, "ARG0")]


def is_tree(heads: Ints) -> bool:
    """Written unlike the code under test: walk up from every word."""
    roots = [word for word, head in enumerate(heads) if word == head]
    for start in range(len(heads)):
        word = start
        for _ in heads:
            word = int(heads[word])
        if [word] != roots:
            return False
    return True


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_what_a_tree_is(given: list[int]) -> None:
    heads = np.array(given) % len(given)
    assert decode.is_tree(heads) == is_tree(heads)


@cache
def all_trees(words: int) -> Ints:
    heads = (np.array(given) for given in product(range(words), repeat=words))
    return np.array([candidate for candidate in heads if is_tree(candidate)])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_tree_is_the_best_of_all_trees_with_one_root(seed: int, words: int, ties: bool) -> None:
    arcs = scores(seed, (words, words), ties)
    heads = tree(arcs)
    assert is_tree(heads)
    best = arcs[np.arange(words), all_trees(words)].sum(-1).max()
    assert arcs[np.arange(words), heads].sum() == pytest.approx(best, abs=1e-3)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0, 1))
def test_tree_uses_as_few_forbidden_arcs_as_it_can(seed: int, words: int, share: float) -> None:
    arcs = scores(seed, (words, words), ties=False)
    random = np.random.default_rng(seed)
    arcs[random.random(arcs.shape) < share] = random.choice([np.nan, -np.inf])
    heads = tree(arcs)
    assert is_tree(heads)
    forbidden = ~np.isfinite(arcs)
    fewest = forbidden[np.arange(words), all_trees(words)].sum(-1).min()
    assert forbidden[np.arange(words), heads].sum() == fewest


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 120), st.floats(0.01, 1e4))
def test_long_sentences_get_a_tree_too_the_same_each_time(seed: int, words: int, scale: float) -> None:
    arcs = scores(seed, (words, words), ties=False) * np.float32(scale)
    heads = tree(arcs)
    assert is_tree(heads)
    assert (tree(arcs.copy()) == heads).all()


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_root_is_said_of_the_root_alone(seed: int, words: int) -> None:
    heads = tree(scores(seed, (words, words), ties=False))
    found = relations(scores(seed + 1, (words, 4), ties=True), heads, root=2)
    assert ((found == 2) == (heads == np.arange(words))).all()


def test_no_words_no_tree() -> None:
    assert tree(np.zeros((0, 0), dtype=np.float32)).tolist() == []
