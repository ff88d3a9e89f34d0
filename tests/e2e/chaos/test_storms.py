"""Storms: many callers that go away, hurry, reconnect or fall silent, and what is left of them."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from tests.e2e.chaos.callers import fresh
from tests.e2e.chaos.conftest import LASTS, long, seed
from tests.e2e.chaos.faults import LASTING, REPEATED, Fault, cancelling, hurrying, reconnecting
from tests.e2e.chaos.inside import Inside

STORMS = [(cancelling, 300), (hurrying, 200), (reconnecting, 1000)]


@pytest.mark.parametrize(("fault", "calls"), STORMS)
def test_a_storm(inside: Inside, fault: Fault, calls: int) -> None:
    with fault(inside.target, seed()) as crowd:
        crowd.until(calls)
    inside.settle()


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault(inside: Inside, fault: Fault) -> None:
    with fault(inside.target, seed()):
        fresh(inside.target)
    inside.settle()


def test_all_faults_at_once(inside: Inside) -> None:
    weather(inside, 5)


@long
@pytest.mark.parametrize("fault", REPEATED)
def test_a_long_storm(inside: Inside, fault: Fault) -> None:
    with fault(inside.target, seed()) as crowd:
        crowd.last(LASTS)
    inside.settle()


@long
@pytest.mark.parametrize("_round", range(3))
def test_all_faults_at_once_and_again(inside: Inside, _round: int) -> None:
    weather(inside, 60)


def weather(inside: Inside, calls: int) -> None:
    """All faults under way, until of each repeated one so many calls have ended."""
    with ExitStack() as stack:
        for lasting in LASTING:
            stack.enter_context(lasting(inside.target, seed()))
        for crowd in [stack.enter_context(fault(inside.target, seed())) for fault in REPEATED]:
            crowd.until(calls)
    inside.settle()
