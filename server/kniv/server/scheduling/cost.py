"""How long a batch takes: learnt from those that have run."""

from __future__ import annotations

_PRIOR_SECONDS = 0.0005  # a subword, before anything has run: slower than any model that we know
_PULL = 0.05  # weight of the pseudo-observation of no overhead
_DECAY = 0.98  # a batch counts half after 34 more
_SPREAD_DECAY = 0.95
_FIRST = 8  # batches that are believed whatever they took
_OUTLIER = 4.0


class CostModel:
    """Seconds as ``overhead + slope x padded subwords``, both not negative.

    A least-squares line through what was measured, older batches counting exponentially less. One pseudo-observation
    of no overhead keeps it defined when all batches are alike, and makes it then extrapolate in proportion, which
    is never too low for a larger batch. A batch that took over 4 times as long as expected, or less than a quarter,
    counts as if it had been that far off only. On CPU a line is within 5 % of the mini model's batches from 1 x 8
    to 16 x 32 on average, within 15 % at worst.

    The mean deviation is learnt as TCP learns that of round trips (Jacobson, SIGCOMM 1988), and added where a
    batch must not take longer than told.
    """

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0  # sums over what was measured
        self._overhead, self._slope = 0.0, _PRIOR_SECONDS
        self._spread = 0.25
        self._seen = 0

    def seconds(self, tokens: int) -> float:
        """What a batch of so many padded subwords is expected to take."""
        return self._overhead + self._slope * tokens

    @property
    def fixed(self) -> float:
        """What every batch takes beside its padded subwords, as a number of these."""
        return self._overhead / self._slope

    def tokens_within(self, seconds: float) -> int:
        """Most padded subwords of a batch that is expected to take no longer; may be 0."""
        return max(0, int((seconds - self._overhead) / self._slope))

    def tokens_surely_within(self, seconds: float) -> int:
        """The same, with the mean deviation on the safe side."""
        return self.tokens_within(seconds / (1 + self._spread))

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a batch.

        Args:
            tokens: its padded subwords.
            seconds: what it took.
        """
        expected = self.seconds(tokens)
        if self._seen >= _FIRST:
            seconds = min(max(seconds, expected / _OUTLIER), expected * _OUTLIER)
            error = abs(seconds - expected) / expected
            self._spread = _SPREAD_DECAY * self._spread + (1 - _SPREAD_DECAY) * error
        self._seen += 1
        self._n = _DECAY * self._n + 1
        self._x = _DECAY * self._x + tokens
        self._y = _DECAY * self._y + seconds
        self._xx = _DECAY * self._xx + tokens * tokens
        self._xy = _DECAY * self._xy + tokens * seconds
        self._fit()

    def _fit(self) -> None:
        n = self._n + _PULL
        determinant = n * self._xx - self._x * self._x
        overhead = (self._y * self._xx - self._x * self._xy) / determinant
        slope = (n * self._xy - self._x * self._y) / determinant
        if overhead < 0:
            overhead, slope = 0.0, self._xy / self._xx
        elif slope <= 0:
            overhead, slope = self._y / n, 0.0
        self._overhead, self._slope = overhead, max(slope, 1e-9)
