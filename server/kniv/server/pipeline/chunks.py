"""Cutting a stream of text into chunks, whatever the pieces it comes in.

A chunk is a run without white space, at most `LONGEST` code points of it; where punctuation and a capital touch in it
("over.Then"), it is cut there too. A chunk depends on the text alone and is handed out once nothing that may follow can
change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

LONGEST = 256
"""Longest chunk, in code points."""

WIDEST = 200
"""White space of more code points than this ends a paragraph."""

# Combining marks, joiners, variation selectors, skin tones, tags, low surrogates: cut off from what they follow only
# where a whole chunk is made of them.
ATTACHED = (
    r"[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f"
    r"\u1ab0-\u1aff\u1dc0-\u1dff\u200c\u200d\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\udc00-\udfff"
    r"\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)
RUN = re.compile(rf"\S{{1,{LONGEST}}}(?<!\u200d)(?!{ATTACHED})|\S{{1,{LONGEST}}}")
_SPACE = re.compile(r"\s+")
_BREAK = re.compile(r"\r\n|[\n\r\x0b\x85\u2028]|(?P<hard>[\x0c\u2029])")
_TOUCHING = re.compile(
    r"(?<=[a-z)\]][a-z)\]])(?:[.?!]+[\"'\u201d\u2019)\]]*)(?=[\"'\u201c\u2018(]?[A-Z][a-z' ]|[A-Z]\Z)|[?!]+(?=[A-Za-z])"
)
_NO_PROSE = re.compile(r"[@/\\=&]|www\.|\.(?:com|net|org|[a-z]{1,3})\b")


class Gap(Enum):
    """What stands before a chunk."""

    NONE = "nothing: a longer run was cut"
    TOUCH = "nothing, but a sentence may end"
    SPACE = "white space"
    LINE = "white space with a line break"
    PARAGRAPH = "a blank line, a page break, very wide white space, or the start of the text"


class Chunk(NamedTuple):
    """Text of a chunk, where it stands, and what stands before it."""

    start: int
    text: str
    gap: Gap


class Chunker:
    """Cuts a text that arrives in pieces; memory is bounded by the largest piece, time is linear.

    Attributes:
        at: offset of the text not yet cut.
    """

    def __init__(self) -> None:
        self._rest = ""
        self.at = 0
        self._after_paragraph = True

    def feed(self, piece: str, last: bool) -> Iterator[Chunk | None]:
        """Yield the chunks that are certain now, with None as soon as a paragraph has ended."""
        text = self._rest + piece
        base = self.at
        done = 0
        while done < len(text):
            space = _SPACE.match(text, done)
            run = space.end() if space else done
            gap = _gap(text[done:run])
            if gap is Gap.PARAGRAPH and not self._after_paragraph:
                self._after_paragraph = True
                yield None
            if self._after_paragraph:
                gap = Gap.PARAGRAPH
                done = run
            found = RUN.match(text, run)
            if found is None or (found.end() == len(text) and not last):
                break
            self._after_paragraph = False
            chunk = Chunk(base + run, found.group(), gap)
            if chunk.text.isalpha():  # most are
                yield chunk
            else:
                yield from _touching(chunk)
            done = found.end()
        self._rest = text[done:]
        self.at = base + done
        if last and not self._after_paragraph:
            self._after_paragraph = True
            yield None


def _gap(space: str) -> Gap:
    if not space:
        return Gap.NONE
    if space == " ":
        return Gap.SPACE
    if len(space) > WIDEST:
        return Gap.PARAGRAPH
    breaks = _BREAK.findall(space)
    if len(breaks) > 1 or any(breaks):
        return Gap.PARAGRAPH
    return Gap.LINE if breaks else Gap.SPACE


def _touching(chunk: Chunk) -> Iterator[Chunk]:
    """Cut a chunk where sentences may touch: "over.Then", but not addresses."""
    start = 0
    if not _NO_PROSE.search(chunk.text):
        for found in _TOUCHING.finditer(chunk.text):
            yield Chunk(chunk.start + start, chunk.text[start : found.end()], Gap.TOUCH if start else chunk.gap)
            start = found.end()
    yield Chunk(chunk.start + start, chunk.text[start:], Gap.TOUCH if start else chunk.gap)
