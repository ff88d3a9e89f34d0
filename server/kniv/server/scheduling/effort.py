"""What a row takes, and a piece of new work in the end, learnt from what has run."""

from __future__ import annotations

_DECAY = 0.993  # a new row counts half after a hundred more
_PRIOR_SECONDS, _PRIOR_ROWS = 0.01, 1.0  # before anything has run
_PACE_WEIGHT = 0.05


class Effort:
    """Seconds of a slot a new row, those of the rows that follow from it included.

    A slot is taken from the moment that a batch is given to it until it is back. That is more than the run: on a
    busy machine batches also wait for their thread, for the interpreter, and for answers that are read in between.

    Attributes:
        pace: seconds of a slot a row of a batch, new or not.
    """

    def __init__(self) -> None:
        self._seconds, self._rows = _PRIOR_SECONDS, _PRIOR_ROWS
        self.pace = _PRIOR_SECONDS

    @property
    def seconds(self) -> float:
        """What a new row takes."""
        return self._seconds / self._rows

    def spent(self, seconds: float, rows: int, new: int) -> None:
        """Learn from a batch.

        Args:
            seconds: that it had a slot.
            rows: its rows.
            new: those of them that were new.
        """
        # By new rows, not by batches: where many follow from each, their seconds would stand beside fewer and fewer.
        kept = _DECAY**new
        self._seconds = kept * self._seconds + seconds
        self._rows = kept * self._rows + new
        self.pace += _PACE_WEIGHT * (seconds / rows - self.pace)
