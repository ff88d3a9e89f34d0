from __future__ import annotations

from concurrent.futures import Future
from math import isnan, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks.server import soak_hour
from benchmarks.server.interactive import Chat
from benchmarks.server.models import Model
from benchmarks.server.soak_hour import grown
from hypothesis import given
from hypothesis import strategies as st

PERIODS = 60
TIMES = [60.0 * number for number in range(PERIODS)]
AFTER = PERIODS // 3
levels = st.floats(100, 1000)


@given(levels, st.floats(-0.5, 0.5))
def test_a_straight_rise_is_told_as_it_is_and_for_sure(level: float, rise: float) -> None:
    after = TIMES[AFTER:]
    values = [level * (1 + rise * (time - after[0]) / (after[-1] - after[0])) for time in TIMES]
    found = grown(TIMES, values)
    assert found.rise == pytest.approx(rise / (1 + rise / 2), abs=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.interval == pytest.approx([found.rise] * 2, abs=1e-9)


@given(levels, st.lists(levels, min_size=AFTER, max_size=AFTER))
def test_what_comes_in_the_first_third_does_not_count(level: float, early: list[float]) -> None:
    found = grown(TIMES, [*early, *([level] * (PERIODS - len(early)))])
    assert found.rise == 0 and found.error == pytest.approx(0, abs=1e-9)


@given(levels, st.sets(st.integers(AFTER, PERIODS - 1), max_size=PERIODS // 6), st.data())
def test_periods_in_which_others_were_busy_or_that_have_no_value_do_not_count_for_latency(
    level: float, busy: set[int], data: st.DataObject
) -> None:
    values = [data.draw(levels | st.just(nan)) if number in busy else level for number in range(PERIODS)]
    others = [1.5 if number in busy else 0.1 for number in range(PERIODS)]
    found = grown(TIMES, values, others)
    assert found.rise == 0 and found.error == pytest.approx(0, abs=1e-9)


@given(st.lists(levels, min_size=PERIODS, max_size=PERIODS))
def test_the_error_is_that_of_a_least_squares_line(values: list[float]) -> None:
    times, after = np.array(TIMES[AFTER:]), np.array(values[AFTER:])
    from_mean = times - times.mean()
    line = from_mean @ after / (from_mean @ from_mean)
    residuals = after - after.mean() - line * from_mean
    error = np.sqrt(residuals @ residuals / (len(after) - 2) / (from_mean @ from_mean))
    assert grown(TIMES, values).error == pytest.approx(
        error * (times[-1] - times[0]) / np.median(after), rel=1e-6, abs=1e-9
    )


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    noise, truth = np.random.default_rng(7), 0.02
    line = 400 * (1 + truth * (np.arange(PERIODS) - AFTER) / (PERIODS - 1 - AFTER))
    intervals = [grown(TIMES, (line + 8 * noise.standard_normal(PERIODS)).tolist()).interval for _ in range(1000)]
    held = np.mean([low <= truth / (1 + truth / 2) <= high for low, high in intervals])
    assert 0.92 < held < 0.97


def test_two_points_have_a_trend_that_nobody_can_be_sure_of() -> None:
    found = grown([0.0, 1.0, 2.0], [5.0, 5.0, 10.0])
    assert found.rise > 0 and isnan(found.error) and all(map(isnan, found.interval))


def test_of_nothing_there_is_no_trend() -> None:
    found = grown(TIMES, [nan] * PERIODS)
    assert isnan(found.rise) and isnan(found.error)


def test_a_chat_that_fails_at_once_costs_no_reload_and_no_period(monkeypatch: pytest.MonkeyPatch) -> None:
    chats: list[Chat] = []

    def start(generator: Any, job: Chat) -> Future[Any]:
        chats.append(job)
        ended: Future[Any] = Future()
        ended.set_result(([], ["chat: refused"]) if job.seed in (0, 4) else ([0.1], []))
        return ended

    process = SimpleNamespace(num_fds=lambda: 9, num_threads=lambda: 4)
    held = {"resident": lambda: 400 << 20, "anonymous": lambda: (300 + len(chats)) << 20}
    server: Any = SimpleNamespace(**held, process=process)
    bench: Any = SimpleNamespace(start=start)
    monkeypatch.setattr(soak_hour, "_reload", lambda server, model: [])
    curves = soak_hour._watch(bench, server, Model(Path("nowhere"), "none"), Chat("", (), 0.9, 0.1), 0.1)
    assert len(curves.periods_s) == len(curves.reloads_s) == len(chats) == 9
    assert curves.least_mib == curves.most_mib == [301 + number for number in range(9)]
    assert curves.failures == ["chat: refused"] * 2
    assert [isnan(value) for value in curves.p50_ms] == [number in (0, 4) for number in range(9)]
