"""What a row takes, and a piece of new work in the end, learnt from what has run."""

from __future__ import annotations

_DECAY = 0.98  # a batch counts half after 34 more
_PRIOR_SECONDS, _PRIOR_ROWS = 0.01, 1.0  # before anything has run
_PACE_WEIGHT = 0.05


class Effort:
    """Seconds of batches a new row, those of the rows that follow from it included.

    Attributes:
        pace: seconds of a batch a row of it, new or not.
    """

    def __init__(self) -> None:
        self._seconds, self._rows = _PRIOR_SECONDS, _PRIOR_ROWS
        self.pace = _PRIOR_SECONDS

    @property
    def seconds(self) -> float:
        """What a new row takes."""
        return self._seconds / self._rows

    def spent(self, seconds: float, rows: int, new: int) -> None:
        """A batch has run.

        Args:
            seconds: what it took.
            rows: its rows.
            new: those of them that were new.
        """
        self._seconds = _DECAY * self._seconds + seconds
        self._rows = max(_DECAY * self._rows + new, 1e-3)
        self.pace += _PACE_WEIGHT * (seconds / rows - self.pace)
