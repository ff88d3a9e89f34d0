"""Scores of sentence boundaries: which gap between two chunks of text ends a sentence.

A logistic regression over hand-made string features, trained on UD English EWT by `kniv.training.segmenter`; what is
measured against it stands in docs/segmentation.md. Everything looked at lies within three chunks of the gap, so that a
decision never waits for more text than that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

AHEAD = 3
"""Chunks after a gap that its features look at."""

_TAIL = re.compile(r"[^\w\s]+\Z")
_LEAD = re.compile(r"[^\w\s]+")
_REPEAT = re.compile(r"(.)\1{3,}")
_DIGITS = re.compile(r"[0-9]+")
_FOLD = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2019": "'", "\u2018": "'", "\u2026": "..."})
_ADDRESS = re.compile(r"(?i)https?:|www\.|\S@\S|\S\.(?:com|org|net|edu|gov|html?)\b")
_SMILE = re.compile(r"[:;=8xX]['-]?[()\[\]DPpOo/\\|]+|<3|\^_*\^|-_+-|[oO]_[oO]")
_TITLES = re.compile(
    r"Mr|Mrs|Ms|Drs?|Prof|Rev|Gen|Adm|Col|Maj|Lt|Sgt|Capt|Cpl|Cmdr|Sen|Rep|Gov|Hon|Fr|St|Ft|Mt|Messrs|Mme|Mlle"
)
_CLOSERS = frozenset(".?!,;:)]}")
_JOINERS = frozenset(";&([{/")
_CACHED = 1 << 14
_LONGEST_CACHED = 40


class Look(NamedTuple):
    """What the features see of one chunk."""

    lead: str  # punctuation it starts with, runs shortened
    core: str  # the rest, lower case, digits as 0
    tail: str  # punctuation it ends with, runs shortened
    shape: str  # letters and digits of the core as one of a few classes
    opens: int  # brackets opened less brackets closed
    quotes: int  # double quotes


def look(chunk: str) -> Look:
    """Describe a chunk: a run of text without white space."""
    return _look(chunk) if len(chunk) > _LONGEST_CACHED else _cached_look(chunk)


def _look(chunk: str) -> Look:
    chunk = chunk.translate(_FOLD)
    if _SMILE.fullmatch(chunk):
        return Look("", ":)", "", "smile", 0, 0)
    lead = _LEAD.match(chunk)
    start = lead.end() if lead else 0
    tail = _TAIL.search(chunk, start)
    end = tail.start() if tail else len(chunk)
    core = chunk[start:end]
    return Look(
        lead=_short(chunk[:start]),
        core=_DIGITS.sub("0", core.lower())[:24],
        tail=_short(chunk[end:]),
        shape=_shape(core),
        opens=sum(map(chunk.count, "([{")) - sum(map(chunk.count, ")]}")),
        quotes=chunk.count('"'),
    )


_cached_look = lru_cache(_CACHED)(_look)


def _short(punctuation: str) -> str:
    return _REPEAT.sub(r"\1\1\1", punctuation)[:4]


def _shape(core: str) -> str:  # noqa: PLR0911
    if not core:
        return "none"
    if _ADDRESS.search(core):
        return "address"
    if core[0].isdigit():
        return "number" if len(core) > 2 or not core.isdigit() else "digit"
    if core.isupper():
        return "initial" if len(core) == 1 else "dotted" if "." in core else "UPPER"
    if _TITLES.fullmatch(core):
        return "honorific"
    if core[0].isupper():
        return "Title" if core[1:].islower() else "Mixed"
    return "dotted" if "." in core else "lower"


class Context(NamedTuple):
    """The sentence so far, before a gap."""

    chunks: int = 0
    opens: int = 0
    quotes: int = 0
    upper: bool = False  # its first letter is a capital

    def add(self, seen: Look) -> Context:
        """The context with one more chunk in the sentence."""
        first = seen.shape in ("Title", "UPPER", "Mixed", "initial") if not self.chunks else self.upper
        return Context(self.chunks + 1, max(0, self.opens + seen.opens), self.quotes + seen.quotes, first)


def features(context: Context, before: Look, left: Look, after: tuple[Look, ...], gap: str) -> list[str]:
    """Names of the features that hold at a gap.

    Args:
        context: the sentence up to and including `left`.
        before: the chunk before `left`, or `EDGE`.
        left: the chunk that the gap follows.
        after: the chunks that follow, 1 to `AHEAD`; fewer than `AHEAD` only where the paragraph ends.
        gap: "" between chunks that touch, " " between others.
    """
    right = after[0]
    second = after[1] if len(after) > 1 else EDGE
    third = after[2] if len(after) > 2 else EDGE
    stop = left.tail or ("_" + left.shape if left.shape in ("smile", "none", "address") else "_")
    start = right.lead + right.shape
    length = _bucket(context.chunks)
    nested = ("(" if context.opens else "") + ('"' if context.quotes % 2 else "")
    return [
        "s=" + stop,
        "r=" + start,
        "sr=" + stop + " " + start + gap,
        "sR=" + stop + " " + right.core,
        "R=" + right.lead + right.core,
        "L=" + left.core + left.tail,
        "Ls=" + left.shape + stop,
        "Lsr=" + left.shape + stop + " " + start,
        "LR=" + left.core + " " + right.core,
        "l=" + length + stop,
        "lsr=" + length + left.shape + stop + " " + right.shape,
        "n=" + nested + stop,
        "nr=" + nested + stop + " " + start,
        "c=" + str(len(after)) + stop + right.tail,
        "u=" + ("U" if context.upper else "l") + stop + " " + right.shape,
        "b=" + before.shape + before.tail + " " + left.shape + stop,
        "br=" + before.shape + " " + left.shape + stop + " " + right.shape,
        "B=" + before.core + " " + left.core + stop,
        "rt=" + stop + " " + right.shape + right.tail + " " + second.lead + second.shape,
        "RS=" + right.core + right.tail + " " + second.core,
        "rst=" + stop + right.shape + " " + second.shape + second.tail + " " + third.shape,
    ]


def possible(before: Look, left: Look, right: Look) -> bool:
    """Whether a sentence may end between two chunks on one line.

    Never after an opening bracket and the like, after a quotation's comma, before a stray full stop, among initials
    ("J. R. R. Tolkien"), or between plain words with no capital to come.
    """
    if (
        left.shape == "initial"
        and left.tail == "."
        and any(o.shape == "initial" and o.tail == "." for o in (before, right))
    ):
        return False
    if right.shape == "none" and right.lead[:1] in _CLOSERS:
        return False
    if left.tail:
        return left.tail[-1] not in _JOINERS and ("," not in left.tail or left.tail == ",")
    return bool(right.lead) or right.shape != "lower" or left.shape in ("smile", "address")


def _bucket(chunks: int) -> str:
    return str(chunks) if chunks < 4 else "4" if chunks < 6 else "6" if chunks < 10 else "10" if chunks < 25 else "25"


EDGE = Look("", "", "", "edge", 0, 0)


def weights() -> Mapping[str, float]:
    """The trained weights, by feature; the key "" is the bias."""
    loaded: dict[str, float] = json.loads(files(__package__).joinpath("boundary.json").read_text("utf-8"))
    return loaded
