"""Whether work would be taken, told before it is made into rows."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.scheduling.stage import row, run, stage, turns

from kniv.server.errors import DeadlineError, OverloadedError
from kniv.server.scheduling.policy import Account, Admission
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.work import Reason


@pytest.mark.parametrize(
    ("admission", "urgency", "reason"),
    [
        (Admission(items=2), Urgency(client="new"), Reason.QUEUE_FULL),
        (Admission(client_items=2), Urgency(), Reason.CLIENT_QUOTA),
        (Admission(), Urgency(account=Account("caller", 1)), Reason.CALLER_ROWS),
        (Admission(), Urgency(deadline=100.001), Reason.TOO_LATE),
        (Admission(), Urgency(deadline=99.0), Reason.EXPIRED),
    ],
)
def test_a_check_fails_as_a_row_would(admission: Admission, urgency: Urgency, reason: Reason) -> None:
    async def play() -> None:
        async with stage(rows=1, admission=admission) as room:
            room.engine.check(room.lane, Urgency())
            running = await room.blocked([1])
            waiting = room.send([2], Urgency(account=Account("caller")))
            await turns()
            with pytest.raises((OverloadedError, DeadlineError)) as early:
                room.engine.check(room.lane, urgency)
            with pytest.raises(type(early.value)) as late:
                await room.lane.submit(row([3]), urgency)
            assert str(early.value) == str(late.value)
            assert room.notes.refusals == [reason, reason]
            room.echo.gate.set()
            await asyncio.gather(running, waiting)

    run(play)


def test_what_is_no_want_of_room_is_left_to_the_rows() -> None:
    async def play() -> None:
        async with stage() as room:
            await room.lane.close()
            room.engine.check(room.lane, Urgency())
            assert not room.notes.refusals

    run(play)
