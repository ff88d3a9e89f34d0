"""Rows that there is no room for: they are refused, or wait as they like."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.scheduling.stage import row, run, stage, turns

from kniv.server.errors import OverloadedError
from kniv.server.scheduling.policy import Admission
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.work import Reason


def test_what_there_is_no_room_for_is_refused_or_waits_as_it_likes() -> None:
    async def play() -> None:
        async with stage(rows=1, admission=Admission(items=2)) as room:
            running = await room.blocked([1])
            waiting = room.send([2])
            await turns()
            with pytest.raises(OverloadedError, match="queue_full") as refused:
                await room.lane.submit(row([3]), Urgency())
            assert refused.value.retry_after > 0 and room.notes.refusals == [Reason.QUEUE_FULL]
            follows = room.send([4], Urgency(arrival=50.0))
            patient = [room.send([n], Urgency(patient=True, client=n % 2)) for n in range(10, 30)]
            leaving = patient.pop(3)
            await turns()
            assert room.engine.items == 3
            leaving.cancel()
            await turns()
            assert leaving.cancelled()
            room.echo.gate.set()
            await asyncio.gather(running, waiting, follows, *patient)
            assert room.echo.batches[:3] == [[[1]], [[4]], [[2]]]
            served = [batch[0][0] for batch in room.echo.batches[3:]]
            assert [n for n in served if n % 2] == sorted(n for n in served if n % 2)
            assert sorted(n for n in served if n % 2 == 0) == [n for n in served if n % 2 == 0]

    run(play)


def test_one_who_waits_at_its_quota_holds_up_nobody_else() -> None:
    async def play() -> None:
        async with stage(rows=1, admission=Admission(items=3, client_items=2)) as room:
            running = await room.blocked([1])
            greedy = [room.send([n], Urgency(patient=True, client="greedy")) for n in range(10, 60)]
            await turns()
            modest = [room.send([n], Urgency(patient=True, client="modest")) for n in (2, 3)]
            await turns()
            assert room.engine.items == 3
            room.echo.gate.set()
            await asyncio.gather(running, *modest, *greedy)
            served = [batch[0][0] for batch in room.echo.batches]
            assert served.index(2) < 6 and served.index(3) < 12

    run(play)


def test_who_waits_for_room_is_not_overtaken_by_a_later_row_of_its_client() -> None:
    async def play() -> None:
        async with stage(rows=1, admission=Admission(items=2)) as room:
            running, leaving = await room.blocked([1]), room.send([2])
            patient = [room.send([10], Urgency(patient=True))]
            await turns()
            leaving.cancel()
            patient.append(room.send([11], Urgency(patient=True)))
            await turns()
            room.echo.gate.set()
            await asyncio.gather(running, *patient)
            assert [batch[0][0] for batch in room.echo.batches] == [1, 10, 11]

    run(play)
