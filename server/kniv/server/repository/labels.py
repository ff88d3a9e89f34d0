"""The label lists of a model version: place in a list is the class index of the matching head."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kniv.server.errors import RepositoryError

_LISTS = ("pos", "ner", "srl", "cls", "deprel")
_NEEDED = {"ner": "O", "srl": "O", "deprel": "root"}


@dataclass(frozen=True, slots=True)
class Labels:
    """Label sets of one cascade.

    Attributes:
        pos: UPOS tags (UD v2).
        ner: ``O`` and BIO tags over entity types.
        srl: ``O``, ``V`` and BIO tags over PropBank roles.
        cls: dialog acts.
        deprel: UD relations with subtypes.
    """

    pos: tuple[str, ...]
    ner: tuple[str, ...]
    srl: tuple[str, ...]
    cls: tuple[str, ...]
    deprel: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Labels:
        """Read ``labels.json``.

        Raises:
            RepositoryError: the file is missing, is no JSON, or lacks a list of distinct labels, or a list
                lacks the label that decoding needs.
        """
        raw = read_object(path)
        lists = {}
        for name in _LISTS:
            values = raw.get(name)
            if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
                values = []
            if not values or len(set(values)) != len(values):
                raise RepositoryError(path, f"'{name}' must be a non-empty list of distinct labels")
            if (needed := _NEEDED.get(name)) and needed not in values:
                raise RepositoryError(path, f"'{name}' lacks the label '{needed}'")
            if loose := [tag for tag in values if tag.startswith("I-") and f"B-{tag[2:]}" not in values]:
                raise RepositoryError(path, f"'{name}' has '{loose[0]}' but no 'B-{loose[0][2:]}'")
            lists[name] = tuple(values)
        return cls(**lists)

    def to_json(self) -> str:
        """The text of ``labels.json``."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return json.dumps(lists, indent=1, ensure_ascii=False) + "\n"


def read_object(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        RepositoryError: the file is missing, unreadable or holds something else.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RepositoryError(path, "missing; a version folder needs it beside its graphs") from error
    except (OSError, ValueError) as error:
        raise RepositoryError(path, f"unreadable: {error}") from error
    if not isinstance(raw, dict):
        raise RepositoryError(path, "must hold a JSON object")
    return raw
