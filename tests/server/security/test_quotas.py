from __future__ import annotations

import asyncio

import pytest

from kniv.server.errors import OverloadedError
from kniv.server.security.caller import Bounds, Caller, Proof
from kniv.server.security.quotas import Quotas

BILLING = Caller(Proof.TOKEN, "billing")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def quotas(clock: Clock, *, apart: bool = True, **bounds: float) -> Quotas:
    return Quotas(Bounds(**bounds), 1.0, apart=apart, clock=clock)  # type: ignore[arg-type]


def test_calls_are_bounded_and_given_back() -> None:
    quota = quotas(Clock(), calls=2).of(BILLING)
    with quota.call():
        with quota.call(), pytest.raises(OverloadedError, match="caller_calls"), quota.call():
            pass
        with quota.call():
            pass


def test_a_call_that_comes_too_soon_is_told_when_to_come() -> None:
    clock = Clock()
    quota = quotas(clock, messages_per_second=2).of(BILLING)
    for _ in range(3):  # two at once, and one that brings the bucket into debt
        quota.admit(10)
    with pytest.raises(OverloadedError) as refused:
        quota.admit(10)
    assert (refused.value.reason, refused.value.retry_after) == ("caller_message_rate", 0.5)
    clock.now += refused.value.retry_after
    quota.admit(10)


def test_a_refused_message_costs_nothing() -> None:
    clock = Clock()
    quota = quotas(clock, messages_per_second=1, bytes_per_second=100).of(BILLING)
    quota.admit(250)
    for _ in range(100):
        with pytest.raises(OverloadedError, match="caller_byte_rate"):
            quota.admit(1)
    clock.now += 1.5
    quota.admit(1)


def test_a_stream_is_slowed_to_its_rate() -> None:
    clock = Clock()
    quota = quotas(clock, bytes_per_second=1000).of(BILLING)

    async def read() -> None:
        for _ in range(100):
            await quota.pace(clock.sleep)
            quota.spend(500)

    asyncio.run(read())
    assert clock.now == pytest.approx((50_000 - 1000 - 500) / 1000)


def test_callers_do_not_share_what_is_theirs() -> None:
    found = quotas(Clock(), calls=1)
    certified = Caller(Proof.CERTIFICATE, "billing")
    with found.of(BILLING).call(), found.of(certified).call(), found.of(Caller(Proof.NONE, "10.0.0.1")).call():
        assert found.of(BILLING) is not found.of(certified)
        assert found.of(Caller(Proof.NONE, "10.0.0.1")) is not found.of(Caller(Proof.NONE, "10.0.0.2"))


def test_anonymous_callers_may_count_as_one() -> None:
    found = quotas(Clock(), apart=False)
    assert found.of(Caller(Proof.NONE, "10.0.0.1")) is found.of(Caller(Proof.NONE, "10.0.0.2"))


def test_bounds_of_a_callers_own_come_into_force_under_way() -> None:
    found = quotas(Clock(), calls=1)
    with found.of(BILLING).call():
        own = Caller(Proof.TOKEN, "billing", bounds=Bounds(calls=2))
        with found.of(own).call(), pytest.raises(OverloadedError), found.of(own).call():
            pass


def test_those_who_came_once_are_forgotten() -> None:
    clock = Clock()
    found = quotas(clock, messages_per_second=1)
    for number in range(20_000):
        found.of(Caller(Proof.NONE, str(number))).admit(1)
        clock.now += 1
    assert len(found._quotas) <= 2048
