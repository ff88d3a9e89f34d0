"""Real text to load the server with."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Dialogue = tuple[str, ...]


def documents(data: Path, count: int, longest: int, seed: int) -> list[str]:
    """Whole documents of all genres, chosen at random; of those over ``longest`` characters the beginning.

    Raises:
        SystemExit: the corpus is not in ``data``.
    """
    chosen = random.Random(seed).sample(list(_read(data, "documents.jsonl.gz")), count)
    return [_beginning(row["text"], longest) for row in chosen]


def dialogues(data: Path, count: int, seed: int) -> list[Dialogue]:
    """Whole dialogues, turn by turn, chosen at random.

    Raises:
        SystemExit: the corpus is not in ``data``.
    """
    chosen = random.Random(seed).sample(list(_read(data, "chats.jsonl.gz")), count)
    return [tuple(turn["text"] for turn in row["turns"]) for row in chosen]


def _read(data: Path, name: str) -> Iterator[dict[str, Any]]:
    path = data / name
    if not path.is_file():
        raise SystemExit(f"{name} is not in {data}; name the folder that has it with --data")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _beginning(text: str, longest: int) -> str:
    """Whole words of at most so many characters."""
    return text if len(text) <= longest else text[: longest + 1].rsplit(maxsplit=1)[0]
