from __future__ import annotations

from math import isnan, nan

import pytest
from benchmarks.server.soak_hour import grown
from hypothesis import given
from hypothesis import strategies as st

PERIODS = 60
TIMES = [60.0 * number for number in range(PERIODS)]
levels = st.floats(100, 1000)


@given(levels, st.floats(-0.5, 0.5))
def test_a_straight_rise_is_told_as_it_is(level: float, rise: float) -> None:
    after = TIMES[PERIODS // 3 :]
    values = [level * (1 + rise * (time - after[0]) / (after[-1] - after[0])) for time in TIMES]
    assert grown(TIMES, values) == pytest.approx(rise / (1 + rise / 2), abs=1e-9)


@given(levels, st.lists(levels, min_size=PERIODS // 3, max_size=PERIODS // 3))
def test_what_comes_in_the_first_third_does_not_count(level: float, early: list[float]) -> None:
    assert grown(TIMES, [*early, *([level] * (PERIODS - len(early)))]) == 0


@given(levels, st.sets(st.integers(PERIODS // 3, PERIODS - 1), max_size=PERIODS // 6), st.data())
def test_periods_in_which_others_were_busy_or_that_have_no_value_do_not_count_for_latency(
    level: float, busy: set[int], data: st.DataObject
) -> None:
    values = [data.draw(levels | st.just(nan)) if number in busy else level for number in range(PERIODS)]
    others = [1.5 if number in busy else 0.1 for number in range(PERIODS)]
    assert grown(TIMES, values, others) == 0


def test_of_nothing_there_is_no_trend() -> None:
    assert isnan(grown(TIMES, [nan] * PERIODS))
