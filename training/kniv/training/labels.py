"""The label lists of the cascade: position in a list is the class index of the matching head."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Labels:
    """Label sets of one cascade.

    Attributes:
        pos: UPOS tags (UD v2), 17 in the published family.
        ner: ``O`` and BIO tags over the 18 OntoNotes entity types, 37.
        srl: ``O``, ``V`` and BIO tags over PropBank roles, 42.
        cls: dialog acts, 8.
        deprel: UD relations with English subtypes, 53.
    """

    pos: tuple[str, ...]
    ner: tuple[str, ...]
    srl: tuple[str, ...]
    cls: tuple[str, ...]
    deprel: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Labels:
        """Read ``labels.json``; raises ValueError naming the file if a list is absent or repeats a label."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        lists = {}
        for name in ("pos", "ner", "srl", "cls", "deprel"):
            values = raw.get(name)
            if not isinstance(values, list) or not values or len(set(values)) != len(values):
                raise ValueError(f"{path}: '{name}' must be a non-empty list of distinct labels")
            lists[name] = tuple(values)
        return cls(**lists)

    def to_json(self) -> str:
        """The ``labels.json`` text of these labels."""
        lists = {name: list(getattr(self, name)) for name in ("pos", "ner", "srl", "cls", "deprel")}
        return json.dumps(lists, indent=1, ensure_ascii=False) + "\n"
