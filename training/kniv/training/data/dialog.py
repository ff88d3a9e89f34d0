"""Utterances with a dialog act, each with the one before it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kniv.training.data.treebank import open_text

# The published mapping of the eight acts onto DailyDialog's four (1 inform, 2 question, 3 directive, 4 commissive).
DAILYDIALOG = {
    "inform": 1, "social": 1, "status": 1, "question": 2,
    "request": 3, "reject": 3, "confirm": 4, "offer": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance: the previous one (None at a dialogue's start), its text and its label."""

    previous: str | None
    text: str
    label: str


def read_dialog_acts(path: Path) -> list[Utterance]:
    """Read ``dialog_acts_*.jsonl`` (label = one of the eight acts)."""
    rows = map(json.loads, open_text(path))
    return [Utterance(row["prev_text"] or None, row["text"], row["label"]) for row in rows]


def read_dailydialog(path: Path) -> list[Utterance]:
    """Read DailyDialog's test file (label = "1" to "4")."""
    rows = map(json.loads, open_text(path))
    return [Utterance(row["prev_text"] or None, row["text"], str(row["act"])) for row in rows]
