from __future__ import annotations

import asyncio
import time
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import DeniedError, ServeError, StoppingError, StreamOverError
from kniv.server.security.standing import Standing
from kniv.server.services.ending import Ending, Lifetime

seconds = st.floats(0.1, 1e6)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(seconds, seconds, st.floats(0, 1), st.lists(st.floats(0, 1e5), max_size=20))
def test_a_stream_lasts_until_it_is_old_or_idle(age: float, idle: float, jitter: float, pauses: list[float]) -> None:
    clock = Clock()
    ending = Ending(asyncio.Event(), Lifetime(age, idle), clock=clock, jitter=lambda: jitter)
    for pause in pauses:
        clock.now += pause
        ending.touch()
    left, error = ending.due()
    own = age * (0.9 + 0.2 * jitter)
    assert left == pytest.approx(min(idle, own - clock.now), rel=1e-6, abs=1e-6)
    if abs(idle - (own - clock.now)) > 1e-3:
        assert error.reason == ("STREAM_IDLE" if idle < own - clock.now else "STREAM_AGE")


def test_it_lasts_no_longer_than_what_the_caller_has_shown() -> None:
    left, error = Ending(asyncio.Event(), Lifetime(age=1e6), Standing(time.time() + 60)).due()
    assert 50 < left <= 60 and error.reason == "CREDENTIALS_EXPIRED"


def test_without_bounds_it_lasts_for_ever() -> None:
    assert Ending(asyncio.Event(), Lifetime()).due()[0] == inf


def test_without_bounds_there_is_nothing_to_watch() -> None:
    async def main() -> None:
        draining = asyncio.Event()
        async with Ending(draining, Lifetime(grace=1.0)) as ending:
            assert len(asyncio.all_tasks()) == 1
            assert not ending.stop.is_set()
            draining.set()
            assert ending.stop.is_set()

    asyncio.run(main())


async def ended(lifetime: Lifetime, *, draining: bool) -> StoppingError:
    event = asyncio.Event()
    async with Ending(event, lifetime) as ending:
        if draining:
            event.set()
        await ending.stop.wait()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    return ending.error


def test_one_that_does_not_end_in_time_is_ended() -> None:
    async def stuck() -> None:
        async with Ending(asyncio.Event(), Lifetime(idle=0.001, grace=0.001)):
            await asyncio.Event().wait()

    with pytest.raises(StreamOverError, match="idle"):
        asyncio.run(stuck())


def test_being_cancelled_is_not_an_end() -> None:
    async def cancelled() -> None:
        async with Ending(asyncio.Event(), Lifetime(idle=1e6, grace=0)):
            current = asyncio.current_task()
            assert current is not None
            current.cancel()
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_draining_is_told_from_the_end_of_one_stream() -> None:
    assert not isinstance(asyncio.run(ended(Lifetime(), draining=True)), StreamOverError)
    assert isinstance(asyncio.run(ended(Lifetime(idle=0.001), draining=False)), StreamOverError)


def test_a_caller_who_may_not_go_on_ends_it() -> None:
    async def main() -> None:
        standing, error = Standing(revocable=True), DeniedError("TOKEN_INVALID", "gone")
        handed_back: list[ServeError] = []
        async with Ending(asyncio.Event(), Lifetime(), standing) as ending:
            ending.hand_back = handed_back.append
            assert not ending.stop.is_set()
            standing.lose(error)
            assert ending.stop.is_set() and ending.error is error and handed_back == [error]
        standing.lose(error)  # nobody is there any more
        assert handed_back == [error]
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_one_whose_time_is_over_ends_in_good_order() -> None:
    async def main() -> None:
        standing = Standing(revocable=True)
        handed_back: list[ServeError] = []
        async with Ending(asyncio.Event(), Lifetime(grace=1e6), standing) as ending:
            ending.hand_back = handed_back.append
            standing.lose(DeniedError("CREDENTIALS_EXPIRED", "over"))
            await ending.stop.wait()
            assert isinstance(ending.error, StreamOverError) and ending.error.reason == "CREDENTIALS_EXPIRED"
        assert not handed_back

    asyncio.run(main())
