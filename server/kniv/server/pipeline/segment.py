"""Sentence segmentation of whole texts, and of documents that arrive in pieces.

What ends a sentence is decided gap by gap between chunks (`chunks`), by scores (`boundary`) that look a bounded way
ahead. So it depends on the text alone, never on how the text was cut into pieces.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kniv.server.pipeline.boundary import AHEAD, EDGE, Context, Look, features, look, possible, weights
from kniv.server.pipeline.chunks import Chunk, Chunker, Gap

LONGEST = 4_000
"""Longest sentence, in code points; a longer one is cut, between words where it can be."""

_BATCH = 1_024
_WRAPPED = range(60, 101)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence: `text` is the caller's text from code point `start`, without white space around it, never empty."""

    start: int
    text: str


def sentences(text: str) -> list[Sentence]:
    """Split a text into sentences, in order and disjoint; only white space lies between them."""
    return Segmenter().feed(text, last=True)


class Segmenter:
    """Splits a text that arrives in pieces into the very sentences that `sentences` finds in the whole.

    A paragraph's sentences come out once a blank line has ended it; those of a long one about `_BATCH` code points
    later than they could be told. Memory is bounded by the largest piece, time is linear. Not thread-safe.
    """

    def __init__(self) -> None:
        self._chunker = Chunker()
        self._pieces: list[str] = []
        self._waiting = 0
        self._text = ""  # what may still be part of a sentence to come
        self._at = 0  # offset of `_text`
        self._queue: deque[tuple[Chunk, Look]] = deque()  # the last chunk of the sentence so far, then what follows
        self._before = EDGE
        self._context = Context()
        self._start = 0
        self._line = 0

    @property
    def settled(self) -> int:
        """Offset before which everything has come out: no sentence to come starts there."""
        return self._at

    def feed(self, piece: str, last: bool) -> list[Sentence]:
        """Take the next piece, of any length, and return the sentences that are certain now.

        Args:
            piece: code points that follow those given before.
            last: whether the text ends with this piece; the segmenter is spent then.
        """
        self._pieces.append(piece)
        self._waiting += len(piece)
        if not last and self._waiting < _BATCH and "\n" not in piece:
            return []
        fresh = "".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        self._text += fresh
        found: list[Sentence] = []
        for chunk in self._chunker.feed(fresh, last):
            if chunk is None:
                self._end_paragraph(found)
            else:
                self._take(chunk, found)
        keep = self._start if self._queue else self._chunker.at
        self._text = self._text[keep - self._at :]
        self._at = keep
        return found

    def _take(self, chunk: Chunk, found: list[Sentence]) -> None:
        seen = look(chunk.text)
        self._queue.append((chunk, seen))
        if len(self._queue) == 1:
            self._begin(chunk, seen)
            self._line = chunk.start
        elif len(self._queue) > AHEAD:
            self._step(found)

    def _begin(self, chunk: Chunk, seen: Look) -> None:
        self._start = chunk.start
        self._context = Context().add(seen)

    def _end_paragraph(self, found: list[Sentence]) -> None:
        while len(self._queue) > 1:
            self._step(found)
        self._close(self._queue.popleft()[0], found)
        self._before = EDGE

    def _step(self, found: list[Sentence]) -> None:
        """Decide the first gap of the queue."""
        left, seen = self._queue.popleft()
        right, right_seen = self._queue[0]
        too_long = right.start + len(right.text) - self._start > LONGEST
        if too_long or self._ends(left, seen, right):
            self._close(left, found)
            self._begin(right, right_seen)
        else:
            self._context = self._context.add(right_seen)
        self._before = seen
        if right.gap is Gap.LINE:
            self._line = right.start

    def _ends(self, left: Chunk, seen: Look, right: Chunk) -> bool:
        if right.gap is Gap.NONE:
            return False
        if right.gap is Gap.LINE:
            width = left.start + len(left.text) - self._line
            # A line is wrapped where the next word would have made it too long; otherwise its author ended it.
            if width >= _WRAPPED.stop or width + 1 + len(right.text) < _WRAPPED.start:
                return True
        if not possible(self._before, seen, self._queue[0][1]):
            return False
        after = tuple([seen for _, seen in self._queue])
        gap = "" if right.gap is Gap.TOUCH else " "
        names = features(self._context, self._before, seen, after, gap)
        weight = _WEIGHTS.get
        return sum([weight(name, 0.0) for name in names]) + _WEIGHTS[""] > 0

    def _close(self, final: Chunk, found: list[Sentence]) -> None:
        start = self._start - self._at
        end = final.start + len(final.text) - self._at
        found.append(Sentence(self._start, self._text[start:end]))


_WEIGHTS = weights()
