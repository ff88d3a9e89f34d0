"""Runs in turns: every contender as often, paired ratios, silence before each turn."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.graph.turns import Clocks, gmean, interleave, ratio
from hypothesis import given
from hypothesis import strategies as st

TIMES = st.floats(1e-4, 10)


class Machine:
    """A clock that jobs move, at a pace that others change from turn to turn."""

    def __init__(self) -> None:
        self.now, self.pace = 0.0, 1.0
        self.runs: list[str] = []
        self.rests: list[float] = []

    def job(self, name: str, seconds: float) -> None:
        self.runs.append(name)
        self.now += seconds * self.pace

    def clocks(self) -> Clocks:
        return Clocks(run=lambda: self.now, wall=lambda: self.now, rest=self.rests.append)


@given(st.dictionaries(st.sampled_from("abcd"), TIMES, min_size=1), st.integers(1, 4), st.floats(0, 5))
def test_every_contender_has_a_value_a_round(taken: dict[str, float], least: int, seconds: float) -> None:
    machine = Machine()
    jobs = {name: (lambda name=name, each=each: machine.job(name, each)) for name, each in taken.items()}
    found = interleave(jobs, seconds, least, rest=0.5, clocks=machine.clocks())
    rounds = {len(values) for values in found.values()}
    assert len(rounds) == 1
    assert min(rounds) >= least
    for name, each in taken.items():
        assert found[name] == pytest.approx(each)
    assert machine.rests == [0.5] * (len(taken) * rounds.pop())


def test_a_slow_time_moves_both_sides_of_a_ratio() -> None:
    machine = Machine()

    def slow() -> None:
        machine.job("slow", 3.0)

    def fast() -> None:
        machine.job("fast", 1.0)
        machine.pace *= 1.5  # each round is slower than the last

    found = interleave({"slow": slow, "fast": fast}, 0, 5, clocks=machine.clocks())
    assert ratio(found["slow"], found["fast"]) == pytest.approx(3.0)


def test_short_runs_are_repeated_and_long_ones_are_not() -> None:
    machine = Machine()
    jobs = {"short": lambda: machine.job("short", 0.001), "long": lambda: machine.job("long", 1.0)}
    interleave(jobs, 0, 1, clocks=machine.clocks())
    assert machine.runs.count("long") == 3  # two that warm and tell how long a run is
    assert machine.runs.count("short") > 3


@given(st.lists(st.floats(0.1, 10), min_size=1), st.floats(0.1, 10))
def test_geometric_mean_scales(values: list[float], factor: float) -> None:
    assert gmean([value * factor for value in values]) == pytest.approx(gmean(values) * factor)
    assert min(values) * 0.999 <= gmean(values) <= max(values) * 1.001


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1))
def test_ratio_turns_over(pairs: list[tuple[float, float]]) -> None:
    above, below = np.array(pairs).T
    if len(pairs) % 2:
        assert ratio(above, below) == pytest.approx(1 / ratio(below, above))
