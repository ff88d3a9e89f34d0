"""A token bucket: so much a second on average, and a little more at once."""

from __future__ import annotations


class Bucket:
    """Fills at a steady rate up to a bound; who takes may bring it into debt, and the next one waits it out.

    So one large amount passes whatever the bound, and what has been taken in any time *t* is at most
    ``burst + rate * t`` and the last amount.

    Args:
        rate: what flows in, a second.
        burst: what it holds at most.
        now: the time, in seconds of a clock that never goes back.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._then = burst, now

    def wait(self, now: float) -> float:
        """Seconds until something may be taken; 0 if it may be now."""
        return max(0.0, -self._filled(now) / self._rate)

    def take(self, amount: float, now: float) -> None:
        """Take so much, whatever there is."""
        self._level = self._filled(now) - amount
        self._then = max(now, self._then)

    def full(self, now: float) -> bool:
        """Whether it is as if it had never been used."""
        return self._filled(now) >= self._burst

    def _filled(self, now: float) -> float:
        return min(self._burst, self._level + self._rate * max(0.0, now - self._then))
