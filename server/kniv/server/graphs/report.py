"""What a pass found and did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PassReport:
    """Outcome of one pass.

    Attributes:
        name: the pass.
        places: how many places of the graph it rewrote; 0 when it was skipped.
        note: what it did, or why it was skipped.
    """

    name: str
    places: int
    note: str
