"""Drawn trees are read back, so that nothing in them is decoration."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kniv.client._tree import draw_tree

UP, DOWN, OWN = set("│├╰┼┴╫"), set("│├╭┼┬╫"), set("┼┴┬")


@st.composite
def trees(draw):
    """Any tree with a single root, projective or not: words in random order, each under an earlier one."""
    size = draw(st.integers(1, 14))
    order = draw(st.permutations(range(size)))
    heads = [order[0]] * size
    for place in range(1, size):
        heads[order[place]] = order[draw(st.integers(0, place - 1))]
    return heads


def read_head(rows, word):
    """Follow the stroke from a word to the left to the line that it hangs on, and that line to its own word."""
    own = next((place for place in reversed(range(len(rows[word]))) if rows[word][place] in OWN), len(rows[word]))
    place = own - 1
    while place >= 0 and rows[word][place] in "─╫":
        place -= 1
    if place < 0:
        return word
    for step, onward in ((-1, UP), (1, DOWN)):
        row = word
        while rows[row][place] in onward:
            row += step
            if rows[row][place] in OWN:
                return row
    raise AssertionError(f"{word} hangs on nothing")


def is_projective(heads):
    def above(word):
        seen = [word]
        while heads[seen[-1]] != seen[-1]:
            seen.append(heads[seen[-1]])
        return seen

    return all(
        head in above(between)
        for word, head in enumerate(heads)
        for between in range(min(word, head) + 1, max(word, head))
    )


@given(trees())
def test_every_head_can_be_read_back(heads):
    rows = draw_tree(heads)
    assert len(rows) == len(heads)
    assert len({len(row) for row in rows}) == 1
    assert [read_head(rows, word) for word in range(len(heads))] == heads


@given(trees())
def test_lines_of_projective_trees_never_meet(heads):
    if is_projective(heads):
        assert "╫" not in "".join(draw_tree(heads))


@given(st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_what_is_no_tree_is_drawn_as_far_as_roots_reach(heads):
    assert len(draw_tree(heads)) == 8


def test_a_projective_tree():
    assert draw_tree([1, 1, 3, 1, 1]) == [
        " ╭───",
        "─┼───",
        " │ ╭─",
        " ├─┴─",
        " ╰───",
    ]


def test_a_tree_with_crossing_lines():
    assert draw_tree([2, 0, 4, 1, 4, 2]) == [
        "   ╭─┬───",
        "   │ ╰─┬─",
        " ╭─┼───╫─",
        " │ │   ╰─",
        "─┴─╫─────",
        "   ╰─────",
    ]


def test_no_words():
    assert draw_tree([]) == []
