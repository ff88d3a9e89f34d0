"""Draws a dependency tree beside its words, one row a word.

Every head has a column, to the right of its own head's, with a line from its first to its last dependent. In a
projective tree no two lines meet. In others, heads whose lines would share a piece of a column get different ones, and
a dependent's line may pass over (╫) the lines of other heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_JUNCTIONS = {(True, True): "┼", (True, False): "┴", (False, True): "┬"}


@dataclass(frozen=True, slots=True)
class _Line:
    column: int
    first: int
    last: int

    def meets(self, first: int, last: int) -> bool:
        return first <= self.last and self.first <= last


def draw_tree(heads: Sequence[int]) -> list[str]:
    """Rows of equal width, one a word, for the indices of the words' heads; a root is its own head."""
    dependents: list[list[int]] = [[] for _ in heads]
    for word, head in enumerate(heads):
        if head != word:
            dependents[head].append(word)
    lines = _place(heads, dependents)
    width = 2 * max((line.column for line in lines.values()), default=-1) + 3
    canvas = [[" "] * width for _ in heads]
    for word, head in enumerate(heads):
        if head == word or head in lines:
            start = 0 if head == word else _position(lines[head]) + 1
            canvas[word][start:] = "─" * (width - start)
    for head, line in lines.items():
        _draw_line(canvas, head, line, set(dependents[head]))
    return ["".join(row) for row in canvas]


def _place(heads: Sequence[int], dependents: list[list[int]]) -> dict[int, _Line]:
    """Lines of the heads that a root leads to, by head; from the root down, each in the first column with room."""
    lines: dict[int, _Line] = {}
    waiting = [word for word, head in enumerate(heads) if word == head]
    for head in waiting:
        if dependents[head]:
            first, last = min(head, *dependents[head]), max(head, *dependents[head])
            column = 0 if heads[head] == head else lines[heads[head]].column + 1
            while any(line.column == column and line.meets(first, last) for line in lines.values()):
                column += 1
            lines[head] = _Line(column, first, last)
            waiting += dependents[head]
    return lines


def _draw_line(canvas: list[list[str]], head: int, line: _Line, dependents: set[int]) -> None:
    position = _position(line)
    for row in range(line.first, line.last + 1):
        if row == head:
            symbol = _JUNCTIONS[line.first < head, line.last > head]
        elif row in dependents:
            symbol = "╭" if row == line.first else "╰" if row == line.last else "├"
        else:
            symbol = "╫" if canvas[row][position] == "─" else "│"
        canvas[row][position] = symbol


def _position(line: _Line) -> int:
    return 2 * line.column + 1
