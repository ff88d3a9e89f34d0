"""Trees of sentences that were read in several windows.

The maximum spanning tree takes cubic time at worst: seconds for a sentence of thousands of words, at the
choice of whoever sends it. Past one window a tree is therefore found a part at a time.
"""

from __future__ import annotations

import numpy as np

from kniv.server.pipeline.decode import Floats, Ints, is_tree, tree


def long_tree(arcs: Floats, home: Ints) -> Ints:
    """Heads [W] of a tree with exactly one root; the root's head is itself.

    Each word's best head where that already is a tree. Otherwise the best tree of each part (the words
    that one window reads); the part whose root is the likeliest holds the sentence's, and the root of
    every other part takes its best head between itself and that part.

    Args:
        arcs: arc scores [W, W], dependent by head.
        home: the window that reads each word [W], not falling from word to word.
    """
    greedy: Ints = arcs.argmax(-1)
    if is_tree(greedy):
        return greedy
    starts = np.flatnonzero(np.diff(home, prepend=home[0] - 1))
    parts = [slice(*ends) for ends in zip(starts, [*starts[1:], len(home)], strict=True)]
    heads = np.concatenate([part.start + tree(arcs[part, part]) for part in parts])
    roots = np.flatnonzero(heads == np.arange(len(heads)))
    main = int(arcs[roots, roots].argmax())
    for index, (root, part) in enumerate(zip(roots, parts, strict=True)):
        # Towards the main part only, so that no two parts hang on each other.
        if index < main:
            heads[root] = part.stop + arcs[root, part.stop : parts[main].stop].argmax()
        elif index > main:
            heads[root] = parts[main].start + arcs[root, parts[main].start : part.start].argmax()
    return heads
