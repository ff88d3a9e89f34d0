from __future__ import annotations

import asyncio

import pytest
from tests.server.scheduling.stage import row, stage, turns

from kniv.server.errors import InferenceError, StoppingError, UnavailableError
from kniv.server.scheduling.policy import Admission
from kniv.server.scheduling.urgency import Urgency


class Deaf:
    """What a run looks at that does not heed it."""

    told = False

    @property
    def terminate(self) -> bool:
        return False

    @terminate.setter
    def terminate(self, value: bool) -> None:
        self.told = value


def test_what_runs_waits_or_waits_for_room_is_handed_back() -> None:
    async def main() -> None:
        async with stage(rows=1, admission=Admission(items=4)) as room:
            running = await room.blocked([1])
            patient = Urgency(client="stream", patient=True)
            waiting = [room.send([number], patient) for number in range(2, 9)]
            await turns()
            room.engine.hand_back()
            ends = await asyncio.gather(running, *waiting, return_exceptions=True)
            assert [type(end) for end in ends] == [StoppingError] * 8
            assert room.echo.switches[0].terminate
            with pytest.raises(StoppingError):
                await room.lane.submit(row([9]), Urgency(arrival=room.time))
            assert not room.notes.refusals

    asyncio.run(main())


def test_a_run_that_hangs_fails_its_rows_and_strands_the_others_until_it_returns() -> None:
    async def main() -> None:
        async with stage(rows=1) as room:
            told: list[int] = []
            room.engine.changes.listen(lambda: told.append(room.engine.hung))
            switch = Deaf()
            room.echo.switch = lambda: switch  # type: ignore[assignment,return-value,method-assign]
            running = await room.blocked([1])
            waiting = room.send([2])
            await turns()
            for seconds in (30.0, 5.0):  # the bound, and the grace
                assert not running.done()
                room.time += seconds
                room.engine._wake()
                await turns()
                assert switch.told
            ends = await asyncio.gather(running, waiting, return_exceptions=True)
            assert [type(end) for end in ends] == [InferenceError, UnavailableError]
            assert room.lane.hangs and told == [1]
            with pytest.raises(UnavailableError):
                await room.lane.submit(row([3]), Urgency())
            room.echo.gate.set()
            while room.engine.hung:  # noqa: ASYNC110 - the thread tells nobody else
                await asyncio.sleep(0.001)
            assert not room.lane.hangs and told == [1, 0]
            assert (await room.lane.submit(row([4]), Urgency())).value

    asyncio.run(main())
