"""What ``metadata.json`` tells the server about a model version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import read_object


@dataclass(frozen=True, slots=True)
class Metadata:
    """Limits that a model was trained with.

    Attributes:
        max_subwords: subwords in one pass, special tokens included.
        max_previous_subwords: last subwords of the previous turn that a dialog act is given.
        max_context_turns: earlier turns that a dialog act can look back on.
    """

    max_subwords: int = 128
    max_previous_subwords: int = 48
    max_context_turns: int = 1

    @classmethod
    def load(cls, path: Path) -> Metadata:
        """Read ``metadata.json``; a limit that it does not name has the published family's value.

        Raises:
            RepositoryError: the file is missing or broken, or a limit is no positive integer.
        """
        raw = read_object(path)
        limits = {}
        for name in cls.__slots__:
            value = raw.get(name, cls.__dataclass_fields__[name].default)
            if not isinstance(value, int) or value < 1:
                raise RepositoryError(path, f"'{name}' must be a positive integer, not {value!r}")
            limits[name] = value
        if limits["max_subwords"] < limits["max_previous_subwords"] + 16:
            raise RepositoryError(path, "'max_previous_subwords' leaves no room for the turn itself")
        return cls(**limits)
