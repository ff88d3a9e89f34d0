"""Text on which the ranges of a model's activations are found where no training text is at hand.

Written for this project; beside this file. Sentences of news, web, chat, law, science and fiction, turns of
dialogues, numbers, names and addresses: what activations depend on is more their kind than their number.
"""

from __future__ import annotations

from importlib.resources import files


def samples() -> list[tuple[str | None, str]]:
    """Texts, each with the turn before it or None."""
    lines = (files(__package__) / "calibration.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.rpartition("\t") for line in lines]
    return [(previous or None, text) for previous, _, text in pairs]
