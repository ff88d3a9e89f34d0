from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.pipeline.encode import Window
from kniv.server.pipeline.stitch import (
    UNREACHED,
    RelationsOfAll,
    Scores,
    home_windows,
    relations_at,
    stitch,
    word_scores,
)


def windows_of(words: int, size: int) -> list[Window]:
    """Windows of ``size`` words that overlap by half, one subword a word."""
    step, found, begin = max(1, size // 2), [], 0
    while True:
        end = min(words, begin + size)
        found.append(Window(begin, end, np.zeros(end - begin + 2, dtype=np.int64), np.arange(1, end - begin + 1)))
        if end == words:
            return found
        begin += step


@given(st.integers(1, 60), st.integers(2, 20))
def test_words_are_read_where_they_stand_farthest_from_a_cut(words: int, size: int) -> None:
    windows = windows_of(words, size)
    home = home_windows(windows, words)

    def margin(word: int, window: Window) -> int:
        left = word - window.begin if window.begin else words
        right = window.end - 1 - word if window.end < words else words
        return min(left, right)

    for word, index in enumerate(home):
        seeing = [window for window in windows if window.begin <= word < window.end]
        assert margin(word, windows[index]) == max(margin(word, window) for window in seeing)


@given(st.integers(1, 40), st.integers(2, 12))
def test_windows_that_agree_stitch_to_what_they_were_cut_from(words: int, size: int) -> None:
    random = np.random.default_rng(words * 100 + size)
    pos = random.normal(size=(words, 3)).astype(np.float32)
    arcs = random.normal(size=(words, words)).astype(np.float32)
    labels = random.normal(size=(words, words, 4)).astype(np.float32)
    windows = windows_of(words, size)
    parts = []
    for window in windows:
        inside = slice(window.begin, window.end)
        outputs = {
            "pos_logits": np.pad(pos[inside], ((1, 1), (0, 0))),
            "arc_scores": np.pad(arcs[inside, inside], 1),
            "label_scores": np.pad(labels[inside, inside], ((1, 1), (1, 1), (0, 0))),
        }
        parts.append(word_scores(outputs, window, root=0))
    whole = stitch(parts, windows, words)
    assert whole.ner is None and whole.pos is not None and whole.arcs is not None
    assert (whole.pos == pos).all()
    home = home_windows(windows, words)
    for word in range(words):
        window = windows[home[word]]
        seen = np.zeros(words, dtype=bool)
        seen[window.begin : window.end] = True
        assert (whole.arcs[word, seen] == arcs[word, seen]).all()
        assert (whole.arcs[word, ~seen] == UNREACHED).all()
    heads = whole.arcs.argmax(-1)
    best = 1 + labels[np.arange(words), heads, 1:].argmax(-1)
    expected = np.where(heads == np.arange(words), 0, best)
    assert relations_at(parts, windows, heads, root=0) == expected.tolist()


def test_a_head_that_the_words_window_did_not_see_is_read_at_the_word() -> None:
    windows = windows_of(6, 4)
    labels = [np.arange(16, dtype=np.uint16).reshape(4, 4) + 100 * index for index in range(2)]
    parts = [Scores(None, None, None, RelationsOfAll(label)) for label in labels]
    heads = np.array([5, 0, 0, 0, 0, 5])
    assert relations_at(parts, windows, heads, root=99)[0] == labels[0][0, 0]
    assert relations_at(parts, windows, heads, root=99)[5] == 99


@given(st.integers(1, 12), st.integers(0, 99), st.booleans())
def test_relations_at_the_best_heads_score_any_head_like_all_pairs(words: int, seed: int, cut: bool) -> None:
    random = np.random.default_rng(seed)
    subwords, classes, width = 2 * words + 2, 5, 4
    first = np.sort(random.choice(np.arange(1, subwords - 1), words, replace=False))
    window = Window(0, words, np.zeros(subwords, dtype=np.int64), first)
    arcs = random.normal(size=(subwords, subwords)).astype(np.float32)
    if cut:  # no word likes the first subword of any: every relation is scored anew
        arcs[:, 0] = 100
    weight = random.normal(size=(classes, width, width)).astype(np.float32)
    dependent, head = random.normal(size=(2, subwords, width)).astype(np.float32)
    labels = np.einsum("si,cij,tj->stc", dependent, weight, head)
    shared = {"arc_scores": arcs}
    all_pairs = word_scores({**shared, "label_scores": labels}, window, root=2)
    outputs = {
        **shared,
        "relation_scores": labels[np.arange(subwords), arcs.argmax(-1)],
        "relation_dependent": dependent,
        "relation_head": head,
    }
    at_best = word_scores(outputs, window, root=2, relation_weight=weight)
    for heads in random.integers(0, words, (3, words)):
        expected = relations_at([all_pairs], [window], heads, root=2)
        assert relations_at([at_best], [window], heads, root=2) == expected
