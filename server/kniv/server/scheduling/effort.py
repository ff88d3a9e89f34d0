"""What a piece of new work takes in the end, learnt from what has run."""

from __future__ import annotations

_DECAY = 0.98  # a batch counts half after 34 more
_PRIOR_SECONDS, _PRIOR_ROWS = 0.01, 1.0


class Effort:
    """Seconds of batches a new row, those of the rows that follow from it included."""

    def __init__(self) -> None:
        self._seconds, self._rows = _PRIOR_SECONDS, _PRIOR_ROWS

    @property
    def seconds(self) -> float:
        """What a new row takes."""
        return self._seconds / self._rows

    def spent(self, seconds: float, rows: int) -> None:
        """A batch has run.

        Args:
            seconds: what it took.
            rows: those of its rows that were new.
        """
        self._seconds = _DECAY * self._seconds + seconds
        self._rows = max(_DECAY * self._rows + rows, 1e-3)
