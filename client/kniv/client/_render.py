"""A sentence drawn for people to read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from kniv.client._annotation import Sentence, Token
from kniv.client._tree import draw_tree

_PLAIN = str.maketrans("╭╰├┬┴┼─│╫┊·", "++++++-||:,")
_STYLES = {"text": "1", "tree": "2", "index": "2", "upos": "36", "relation": "33", "entity": "1;35", "act": "1;32"}
_ALIGNED_RIGHT = {"index"}


def render(sentence: Sentence, *, color: bool = False, ascii_only: bool = False) -> str:
    """Draw a sentence: its text, a row for each token, a line for each frame, and a line for the dialog act.

    A row has the dependency tree, the token's index, form, UPOS tag, relation and entity type; what was not asked for
    takes no room. ``color`` adds ANSI colours, ``ascii_only`` does without box-drawing characters. Lines are not
    wrapped and there is no newline at the end.
    """
    draw = _Painter(color, ascii_only)
    lines = [draw.paint(_printable(sentence.text), "text"), *_token_rows(sentence, draw)]
    lines += _frame_lines(sentence, draw)
    if sentence.dialog_act is not None:
        act = sentence.dialog_act
        lines.append(f"  act    {draw.paint(_printable(act.label), 'act')} {act.score:.2f}")
    return "\n".join(lines)


class _Painter:
    def __init__(self, color: bool, ascii_only: bool) -> None:
        self._color = color
        self._ascii_only = ascii_only

    def symbols(self, text: str) -> str:
        """Our own drawing, not the user's text."""
        return text.translate(_PLAIN) if self._ascii_only else text

    def paint(self, text: str, style: str) -> str:
        code = _STYLES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self._color and code and text.strip() else text


def _token_rows(sentence: Sentence, draw: _Painter) -> list[str]:
    tokens = sentence.tokens
    heads = [token.head for token in tokens if token.head is not None]
    columns = {
        "tree": map(draw.symbols, draw_tree(heads) if len(heads) == len(tokens) else [""] * len(tokens)),
        "index": (str(index) for index in range(len(tokens))),
        "form": (_printable(token.text) for token in tokens),
        "upos": (_printable(token.upos or "") for token in tokens),
        "relation": (_printable(token.relation or "") for token in tokens),
        "entity": map(draw.symbols, _entity_marks(sentence)),
    }
    painted = [_column(cells, style, draw) for style, cells in columns.items()]
    return ["  ".join(cell for cell in row if cell).rstrip() for row in zip(*painted, strict=True)]


def _column(cells: Iterable[str], style: str, draw: _Painter) -> list[str]:
    cells = list(cells)
    width = max(map(_width, cells), default=0)
    padding = [" " * (width - _width(cell)) for cell in cells]
    if style in _ALIGNED_RIGHT:
        return [pad + draw.paint(cell, style) for cell, pad in zip(cells, padding, strict=True)]
    return [draw.paint(cell, style) + pad for cell, pad in zip(cells, padding, strict=True)]


def _entity_marks(sentence: Sentence) -> list[str]:
    marks = [""] * len(sentence.tokens)
    for entity in sentence.entities:
        marks[entity.first_token : entity.end_token] = "┊" * (entity.end_token - entity.first_token)
        marks[entity.first_token] = _printable(entity.type)
    return marks


def _frame_lines(sentence: Sentence, draw: _Painter) -> list[str]:
    lines = []
    for frame in sentence.frames:
        predicate: Token = sentence.tokens[frame.predicate]
        arguments = [
            f"{draw.paint(_printable(argument.role), 'relation')} {_printable(argument.text)}"
            for argument in frame.arguments
        ]
        parts = [draw.paint(_printable(predicate.text), "text"), draw.symbols(" · ").join(arguments)]
        lines.append("  frame  " + "  ".join(part for part in parts if part))
    return lines


def _printable(text: str) -> str:
    """One line of text that cannot steer a terminal."""
    return "".join("�" if unicodedata.category(sign) == "Cc" else sign for sign in " ".join(text.split()))


def _width(text: str) -> int:
    """Columns that a terminal gives to a text."""
    return sum(map(_sign_width, text))


def _sign_width(sign: str) -> int:
    if unicodedata.category(sign) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in ("W", "F") else 1
