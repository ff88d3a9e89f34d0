"""Runs taken in turns, so that a machine that others share slows every contender alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = Mapping[str, NDArray[np.float64]]

_SHORT_S = 0.05  # runs below are repeated within a turn, after one that does not count
_MOST = 5


@dataclass(frozen=True, slots=True)
class Clocks:
    """What time is taken by.

    Attributes:
        run: that of one contender's run.
        wall: that of the whole measurement.
        rest: waits so many seconds.
    """

    run: Callable[[], float] = time.perf_counter
    wall: Callable[[], float] = time.perf_counter
    rest: Callable[[float], None] = time.sleep


# One thread's own processor time: waiting for a busy machine does not count.
OWN = Clocks(run=time.thread_time)


def interleave(
    jobs: Mapping[str, Callable[[], object]],
    seconds: float,
    least: int,
    rest: float = 0.0,
    clocks: Clocks | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Seconds a run of every contender, one value a round.

    Args:
        jobs: a run of each contender.
        seconds: rounds are begun until so much time has passed.
        least: rounds, at least.
        rest: seconds of silence before each turn, for threads of the one before that spin.
        clocks: the machine's by default.
    """
    clocks = clocks or Clocks()
    repeats = {}
    for name, job in jobs.items():
        job()
        repeats[name] = _repeats(_timed(job, 1, clocks))
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    begun, rounds = clocks.wall(), 0
    while rounds < least or clocks.wall() - begun < seconds:
        for name, job in jobs.items():
            clocks.rest(rest)
            if repeats[name] > 1:
                job()
            taken[name].append(_timed(job, repeats[name], clocks))
        rounds += 1
    return {name: np.array(values) for name, values in taken.items()}


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> float:
    """Median of the paired ratios: each round's two values were taken one soon after the other."""
    return float(np.median(above / below))


def gmean(values: Sequence[float]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def _repeats(seconds: float) -> int:
    return min(_MOST, int(np.ceil(_SHORT_S / max(seconds, 1e-9))))


def _timed(job: Callable[[], object], times: int, clocks: Clocks) -> float:
    begun = clocks.run()
    for _ in range(times):
        job()
    return (clocks.run() - begun) / times
