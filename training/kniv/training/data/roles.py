"""PropBank roles, one row a predicate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kniv.training.data.treebank import open_text


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One predicate of one sentence with its BIO role tags (``V`` at the predicate)."""

    sent_id: str
    words: tuple[str, ...]
    predicate: int
    tags: tuple[str, ...]
    is_verb: bool
    is_root: bool


def read_roles(path: Path, known: frozenset[str]) -> list[RoleRow]:
    """Read ``srl_*.jsonl``; continuations (C-X) and references (R-X) are folded into X.

    Args:
        path: JSON lines, gzipped or not, with ``raw`` BIO tags over PropBank's own role names.
        known: tags of the label set; a role outside it becomes ``O``.
    """
    rows = []
    for line in open_text(path):
        row = json.loads(line)
        tags = fold(row["raw"], row["predicate_idx"], known)
        rows.append(
            RoleRow(row["sent_id"], tuple(row["words"]), row["predicate_idx"], tags, row["is_verb"], row["is_root"])
        )
    return rows


def fold(raw: list[str], predicate: int, known: frozenset[str]) -> tuple[str, ...]:
    """Tags of the label set from PropBank's: one ``V`` on the predicate, C-X and R-X read as X."""
    tags = []
    for position, tag in enumerate(raw):
        prefix, _, role = tag.partition("-")
        folded = f"{prefix}-{role.removeprefix('C-').removeprefix('R-')}"
        tags.append("V" if position == predicate else folded if folded in known else "O")
    return tuple(tags)
