"""Universal Dependencies treebanks in CoNLL-U, and entity layers over the same sentences in IOB2."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TreeSentence:
    """One sentence of a treebank; all sequences have one entry a word.

    Attributes:
        heads: 0-based index of each word's head; the root word points at itself.
    """

    sent_id: str
    text: str
    words: tuple[str, ...]
    upos: tuple[str, ...]
    heads: tuple[int, ...]
    deprels: tuple[str, ...]


def read_conllu(path: Path) -> list[TreeSentence]:
    """Read a (gzipped) CoNLL-U file; multi-word tokens and empty nodes are skipped."""
    return [_tree(comments, rows) for comments, rows in _blocks(path)]


def _tree(comments: dict[str, str], rows: list[list[str]]) -> TreeSentence:
    words = [row for row in rows if row[0].isdigit()]
    heads = tuple(int(row[6]) - 1 if row[6] != "0" else position for position, row in enumerate(words))
    return TreeSentence(
        sent_id=comments["sent_id"],
        text=comments["text"],
        words=tuple(row[1] for row in words),
        upos=tuple(row[3] for row in words),
        heads=heads,
        deprels=tuple(row[7] for row in words),
    )


def read_iob2(path: Path) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Read a (gzipped) Universal NER file: sent_id to (words, IOB2 tags)."""
    layers = {}
    for comments, rows in _blocks(path):
        layers[comments["sent_id"]] = (tuple(row[1] for row in rows), tuple(row[2] for row in rows))
    return layers


def open_text(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, gunzipped where its name ends in .gz."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from lines


def _blocks(path: Path) -> Iterator[tuple[dict[str, str], list[list[str]]]]:
    """Blank-line separated blocks as ('# key = value' comments, tab-separated rows)."""
    comments: dict[str, str] = {}
    rows: list[list[str]] = []
    for line in open_text(path):
        text = line.rstrip("\n")
        if text.startswith("#"):
            key, _, value = text[1:].partition("=")
            comments[key.strip()] = value.strip()
        elif text:
            rows.append(text.split("\t"))
        elif rows:
            yield comments, rows
            comments, rows = {}, []
    if rows:
        yield comments, rows
