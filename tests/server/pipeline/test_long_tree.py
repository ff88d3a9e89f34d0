from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kniv.server.pipeline.decode import is_tree
from kniv.server.pipeline.long_tree import long_tree


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_any_scores_give_a_tree_with_one_root(sizes: list[int], data: st.DataObject) -> None:
    words = sum(sizes)
    home = np.repeat(np.arange(len(sizes)), sizes)
    scores = st.floats(-20, 20, width=32)
    arcs = data.draw(arrays.arrays(np.float32, (words, words), elements=scores))
    assert is_tree(long_tree(arcs, home))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_sentence_whose_best_heads_are_a_tree_keeps_them(sizes: list[int], random: object) -> None:
    words = sum(sizes)
    heads = np.array([random.randrange(word) if word else 0 for word in range(words)])  # type: ignore[attr-defined]
    arcs = np.zeros((words, words), dtype=np.float32)
    arcs[np.arange(words), heads] = 1
    assert (long_tree(arcs, np.repeat(np.arange(len(sizes)), sizes)) == heads).all()
