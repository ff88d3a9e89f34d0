from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.services.turnstile import Turnstile


def passed(order: list[int], *, ordered: bool) -> list[int]:
    """The order in which holders get through who arrive in ``order``."""

    async def main() -> list[int]:
        turnstile, through = Turnstile(ordered), []
        tickets = [turnstile.draw() for _ in order]

        async def go(ticket: int) -> None:
            await turnstile.enter(ticket)
            through.append(ticket)
            turnstile.leave(ticket)

        assert tickets == sorted(order)
        await asyncio.gather(*(go(ticket) for ticket in order))
        return through

    return asyncio.run(main())


@given(st.permutations(range(12)))
def test_ordered_holders_pass_in_the_order_of_their_tickets(order: list[int]) -> None:
    assert passed(order, ordered=True) == sorted(order)


@given(st.permutations(range(12)))
def test_without_order_nobody_waits(order: list[int]) -> None:
    assert passed(order, ordered=False) == order
