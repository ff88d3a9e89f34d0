"""Runs that take too long: told to stop first, and taken for hung if that does not help."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class RunBound:
    """How long a run may take.

    Attributes:
        floor: seconds that every run may take, ``inf`` for no watchdog.
        factor: a run that is expected to take longer may take this many times what is expected of it.
        grace: seconds in which it has to return once it is told to stop.
    """

    floor: float = 30.0
    factor: float = 20.0
    grace: float = 5.0

    def __post_init__(self) -> None:
        if not (self.floor > 0 and self.factor >= 1 and 0 < self.grace < inf):
            raise ValueError(f"floor and grace must be positive and factor at least 1, not {self}")

    def seconds(self, expected: float) -> float:
        """What a run may take that is expected to take so many seconds."""
        return max(self.floor, self.factor * expected)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run that is over its bound.

    Attributes:
        batch: what it runs.
        told: whether it was told to stop and has not returned, so that it hangs; else it is to be told.
    """

    batch: int
    told: bool


@dataclass(slots=True)
class _Run:
    due: float
    told: bool = False


class Watchdog:
    """Watches the runs under way, in its owner's time.

    An owner that looks later than the grace has itself been held up, with the whole process or machine maybe, and
    so may the runs have been: they get the grace once more before anything is held against them.

    Args:
        bound: how long runs may take.
    """

    def __init__(self, bound: RunBound) -> None:
        self._bound = bound
        self._runs: dict[int, _Run] = {}

    def began(self, batch: int, expected: float, now: float) -> None:
        """A run has begun that is expected to take so many seconds."""
        if self._bound.floor < inf:
            self._runs[batch] = _Run(now + self._bound.seconds(expected))

    def ended(self, batch: int) -> None:
        """A run has returned; one that is not watched is passed over."""
        self._runs.pop(batch, None)

    def due(self) -> float:
        """When to look next; ``inf`` if nothing runs."""
        return min((run.due for run in self._runs.values()), default=inf)

    def look(self, now: float) -> Overdue | None:
        """A run whose time is up, if there is one; to be asked again until there is none.

        One that hangs is watched no more.
        """
        for batch, run in self._runs.items():
            if run.due > now:
                continue
            late = now > run.due + self._bound.grace
            run.due = now + self._bound.grace
            if late:
                continue
            if run.told:
                del self._runs[batch]
                return Overdue(batch, told=True)
            run.told = True
            return Overdue(batch, told=False)
        return None
