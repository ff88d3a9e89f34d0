"""A lane or the engine closes: what it has ends, and what comes later is refused."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.scheduling.stage import row, run, stage, turns

from kniv.server.errors import NotReadyError, StoppingError
from kniv.server.scheduling.urgency import Urgency


def test_a_lane_that_closes_ends_what_it_has_while_another_of_its_name_serves() -> None:
    async def play() -> None:
        async with stage(rows=1) as room:
            running = await room.blocked([1])
            old, waiting = room.lane, room.send([2])
            await turns()
            assert old.waiting() == {1: 1, 2: 0}
            closing = asyncio.create_task(old.close())
            await turns()
            room.lane = room.open()
            new = room.send([3])
            with pytest.raises(NotReadyError):
                await old.submit(row([4]), Urgency())
            room.echo.gate.set()
            await asyncio.gather(running, waiting, new, closing)
            assert old.waiting() == {}
            await old.close()
            with pytest.raises(NotReadyError):
                await old.submit(row([5]), Urgency(arrival=1.0))

    run(play)


def test_a_closing_engine_ends_what_it_has_and_takes_only_what_follows_from_it() -> None:
    async def play() -> None:
        async with stage() as room:
            running = await room.blocked([1])
            closing = asyncio.create_task(room.engine.close())
            await turns()
            with pytest.raises(StoppingError):
                await room.lane.submit(row([2]), Urgency())
            follows = room.send([3], Urgency(arrival=1.0))
            await turns()
            room.echo.gate.set()
            await asyncio.gather(running, follows, closing)

    run(play)
