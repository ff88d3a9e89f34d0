from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.services.turnstile import Turnstile


def passed(order: list[int], *, ordered: bool) -> list[list[int]]:
    """Who gets through as holders enter in ``order``, at each one's coming."""
    turnstile: Turnstile[int] = Turnstile(ordered)
    assert [turnstile.draw() for _ in order] == sorted(order)
    return [turnstile.enter(ticket, ticket) for ticket in order]


@given(st.permutations(range(12)))
def test_ordered_holders_pass_in_the_order_of_their_tickets_as_soon_as_they_can(order: list[int]) -> None:
    here: set[int] = set()
    through: list[int] = []
    for ticket, passing in zip(order, passed(order, ordered=True), strict=True):
        here.add(ticket)
        through += passing
        assert through == list(range(len(through))) and len(through) not in here
    assert through == sorted(order)


@given(st.permutations(range(12)))
def test_without_order_nobody_waits(order: list[int]) -> None:
    assert passed(order, ordered=False) == [[ticket] for ticket in order]
