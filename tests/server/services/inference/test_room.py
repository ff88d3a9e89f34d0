from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import OverloadedError
from kniv.server.services.inference.room import Room

MOST = 100


@given(st.lists(st.tuples(st.integers(1, 130), st.booleans(), st.integers(0, 5), st.booleans()), max_size=30))
def test_no_more_is_taken_than_there_is_and_all_who_wait_get_in(asked: list[tuple[int, bool, int, bool]]) -> None:
    held, begun, ended = 0, list[int](), list[int]()

    async def one(room: Room, number: int, size: int, patient: bool, steps: int, gone: bool) -> None:
        nonlocal held
        try:
            async with asyncio.timeout(0 if gone and patient else None):
                await room.take(size, patient=patient)
        except TimeoutError:
            return
        except OverloadedError as error:
            assert not patient and error.reason == "response_bytes"
            return
        begun.append(number)
        held += size
        assert held <= MOST or held == size
        for _ in range(steps):
            await asyncio.sleep(0)
        held -= size
        room.give(size)
        ended.append(number)

    async def main() -> None:
        room = Room(MOST)
        async with asyncio.TaskGroup() as group:
            for number, ask in enumerate(asked):
                group.create_task(one(room, number, *ask))
        await room.take(MOST + 1, patient=False)  # all of it is there again

    asyncio.run(main())
    assert begun == sorted(begun) and sorted(ended) == begun
    assert set(begun) >= {number for number, (_, patient, _, gone) in enumerate(asked) if patient and not gone}


def test_a_call_does_not_overtake_those_who_wait() -> None:
    async def main() -> None:
        room = Room(MOST)
        await room.take(60, patient=False)
        waiting = asyncio.create_task(room.take(60, patient=True))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await room.take(10, patient=False)
        room.give(60)
        await waiting

    asyncio.run(main())
