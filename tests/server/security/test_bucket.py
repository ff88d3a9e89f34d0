from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.security.bucket import Bucket

rates = st.floats(0.1, 1e6)
amounts = st.floats(0, 1e5)
moves = st.lists(st.tuples(st.floats(0, 100), amounts), min_size=1, max_size=50)


@given(rates, st.floats(1, 1e6), moves)
def test_no_more_flows_than_burst_rate_and_one_amount(
    rate: float, burst: float, moves: list[tuple[float, float]]
) -> None:
    now, taken = 0.0, 0.0
    bucket = Bucket(rate, burst, now)
    for pause, amount in moves:
        now += pause
        if bucket.wait(now) > 0:
            continue
        assert taken <= (burst + rate * now) * (1 + 1e-9)
        bucket.take(amount, now)
        taken += amount


@given(rates, st.floats(1, 1e6), moves)
def test_who_waits_as_told_may_take_and_not_much_earlier(
    rate: float, burst: float, moves: list[tuple[float, float]]
) -> None:
    now = 0.0
    bucket = Bucket(rate, burst, now)
    for _, amount in moves:
        wait = bucket.wait(now)
        if wait > 1e-6:
            assert bucket.wait(now + wait / 2) > 0
        now += wait
        assert bucket.wait(now) <= 1e-6 * (1 + now)
        bucket.take(amount, now)


@given(rates, st.floats(1, 1e6), amounts)
def test_an_unused_bucket_fills_up_and_no_further(rate: float, burst: float, amount: float) -> None:
    bucket = Bucket(rate, burst, 0.0)
    bucket.take(amount, 0.0)
    assert bucket.full(amount / rate * (1 + 1e-9) + 1e-3)
    bucket.take(burst, 1e9)
    assert bucket.wait(1e9) == 0
    bucket.take(1.0, 1e9)
    assert bucket.wait(1e9) == pytest.approx(1 / rate)


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = Bucket(1.0, 1.0, 100.0)
    bucket.take(11.0, 100.0)
    assert bucket.wait(50.0) == 10
    bucket.take(0.0, 50.0)
    assert bucket.wait(105.0) == 5
