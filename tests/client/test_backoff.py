"""When a broken stream is opened again: which ends are breaks, and how long to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.client import (
    DeadlineExceededError,
    InvalidRequestError,
    KnivError,
    NotFoundError,
    Reconnect,
    ResourceExhaustedError,
    ServerError,
    UnavailableError,
)
from kniv.client._reconnect import Backoff, is_break


def test_waiting_grows_is_bounded_and_starts_anew_after_progress():
    now = [0.0]
    backoff = Backoff(
        Reconnect(initial_delay_s=1, max_delay_s=5, multiplier=2, patience_s=20), lambda: now[0], lambda: 1.0
    )
    assert [backoff.delay(None) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert backoff.delay(7.5) == 7.5 + 5  # after the time that the server asks for, or all streams would come at once
    assert backoff.delay(30) is None
    now[0] = 20.5
    assert backoff.delay(None) is None
    backoff.progressed()
    assert backoff.delay(None) == 1


def test_patience_begins_anew_after_a_time_without_anything_to_send():
    now = [0.0]
    backoff = Backoff(Reconnect(initial_delay_s=1, max_delay_s=1, patience_s=20), lambda: now[0], lambda: 1.0)
    assert backoff.delay(None) == 1
    now[0] = 3600.0
    backoff.wanted()
    assert backoff.delay(None) == 1
    now[0] += 20
    assert backoff.delay(None) is None


@given(st.floats(0, 1), st.integers(0, 2000))
def test_jitter_is_full(draw, failures):
    backoff = Backoff(Reconnect(patience_s=1e9), lambda: 0.0, lambda: draw)
    backoff.failures = failures
    assert backoff.delay(None) == pytest.approx(draw * min(5, 0.1 * 2 ** min(failures, 50)))


def test_a_policy_that_cannot_be_followed_is_refused():
    for wrong in ({"initial_delay_s": 0}, {"max_delay_s": 0.01}, {"multiplier": 0.5}, {"patience_s": -1}):
        with pytest.raises(ValueError, match="Reconnect"):
            Reconnect(**wrong)


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (UnavailableError("Socket closed"), True),
        (ResourceExhaustedError("quota", retry_after_s=1), True),
        (ResourceExhaustedError("message too large"), False),
        (ServerError("Received RST_STREAM with error code 2"), True),
        (KnivError("RST_STREAM", code="CANCELLED"), True),
        (KnivError("CANCELLED", code="CANCELLED"), True),  # gRPC's own, before the server saw the call
        (KnivError("Locally cancelled by application!", code="CANCELLED"), False),
        (KnivError("Stream removed (Data frame with END_STREAM flag received)", code="UNKNOWN"), True),
        (ServerError("internal error; the server's log has it"), False),
        (KnivError("Stream removed (Channel closed!)", code="CANCELLED"), False),  # by the caller
        (DeadlineExceededError("late"), False),
        (InvalidRequestError("options.model"), False),
        (NotFoundError("no such model"), False),
    ],
)
def test_which_ends_are_breaks(error, broken):
    assert is_break(error) is broken
