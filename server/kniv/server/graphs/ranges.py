"""What activations were seen to be, and how to even out their channels before they are rounded.

Where a few channels of an activation are much larger than the rest (in FFNs, twenty times), one step for all would lose
the rest. There the activation is divided channel by channel and the rows of its weights are multiplied by the same
(SmoothQuant, Xiao et al. 2023, eq. 3 and 4), by as much as makes the expected error of the product smallest; none where
that gains little, since the division is one more pass over the activation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kniv.server.graphs.saturation import steps

_STRENGTHS = (0.25, 0.375, 0.5, 0.625, 0.75)  # how much of a channel's size moves into the weights
_WORTH = 0.75  # smoothing must bring a product's expected squared error below this share

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Range:
    """What an activation [..., K] was seen to be, channel by channel.

    Attributes:
        low: lowest value of each channel, [K].
        high: highest value of each channel, [K].
        power: mean square of each channel, [K].
    """

    low: Floats
    high: Floats
    power: Floats

    def ends(self) -> tuple[float, float]:
        """Lowest and highest value of all, zero among them, for zero must have a code of its own."""
        return min(float(self.low.min()), 0.0), max(float(self.high.max()), 1e-6)

    def over(self, divisors: Floats) -> Range:
        """The range of the activation divided by ``divisors`` [K]."""
        return Range(self.low / divisors, self.high / divisors, self.power / divisors**2)


class Observer:
    """Gathers the range of one activation from the values of single runs."""

    def __init__(self) -> None:
        self._low: Floats | None = None
        self._high: Floats | None = None
        self._squares: NDArray[np.float64] | None = None
        self._count = 0

    def see(self, values: Floats) -> None:
        """Take note of values [..., K]; padding would count too."""
        rows = values.reshape(-1, values.shape[-1])
        low, high, squares = rows.min(0), rows.max(0), np.square(rows, dtype=np.float64).sum(0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        self._squares = squares if self._squares is None else self._squares + squares
        self._count += len(rows)

    def range(self) -> Range:
        """What was seen.

        Raises:
            ValueError: nothing was.
        """
        if self._low is None or self._high is None or self._squares is None:
            raise ValueError("no rows to find ranges on")
        return Range(self._low, self._high, (self._squares / self._count).astype(np.float32))


def divisors(seen: Range, weight: Floats) -> Floats | None:
    """What to divide an activation's channels by before it is rounded.

    Args:
        seen: the activation.
        weight: what it is multiplied by, [K, N].

    Returns:
        Divisors [K], powers of ``max |x_k| / max |w_k|``; None where they would gain too little.
    """
    size = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), 1e-5)
    rows = np.maximum(np.abs(weight).max(1), 1e-5)
    plain = expected_error(seen, weight)
    best, least = None, _WORTH * plain
    for strength in _STRENGTHS:
        tried = (size**strength / rows ** (1 - strength)).astype(np.float32)
        tried /= np.exp(np.log(tried).mean())
        error = expected_error(seen.over(tried), weight * tried[:, None])
        if error < least:
            best, least = tried, error
    return best


def expected_error(seen: Range, weight: Floats) -> float:
    """Expected squared error of one row of a product whose two sides are rounded, summed over its columns.

    Rounding to steps of d errs by d^2 / 12 in the mean (uniform errors, independent of each other).
    """
    low, high = seen.ends()
    step = (high - low) / 255
    columns = steps(weight, axis=0)
    of_activation = step**2 * float(np.square(weight).sum(dtype=np.float64))
    of_weight = float(seen.power.sum(dtype=np.float64)) * float(np.square(columns).sum(dtype=np.float64))
    return (of_activation + of_weight) / 12
