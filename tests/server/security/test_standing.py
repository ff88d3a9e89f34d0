from __future__ import annotations

import asyncio
from contextlib import ExitStack
from itertools import groupby
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import DeniedError, ServeError
from kniv.server.security.standing import Standing, Vigil

GONE = DeniedError("TOKEN_INVALID", "gone")


class Files:
    """What the files say, look by look; afterwards the last for ever."""

    def __init__(self, said: list[bool]) -> None:
        self.said, self.looks, self.over = said, 0, asyncio.Event()

    def known(self) -> tuple[object, ...]:
        self.looks += 1
        if self.looks == len(self.said) + 3:
            self.over.set()
        return (self.now,)

    @property
    def now(self) -> bool:
        return self.said[min(self.looks, len(self.said)) - 1] if self.looks else self.said[0]

    def clock(self) -> float:
        return float(self.looks)

    def judge(self) -> float:
        if not self.now:
            raise GONE
        return inf


async def watched(files: Any, standing: Standing) -> list[ServeError]:
    """What a stream is told until all looks have been had, and a few more."""
    lost: list[ServeError] = []
    standing.tell(lost.append)
    with Vigil(files, 0).over(standing, files.judge):
        await files.over.wait()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    return lost


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_stream_ends_once_the_files_twice_say_so(said: list[bool]) -> None:
    lost = asyncio.run(watched(Files(said), Standing(revocable=True)))
    # What is said last is said for ever.
    runs = [(good, len(list(group))) for good, group in groupby([*said, said[-1], said[-1]])]
    assert bool(lost) == any(not good and length > 1 for good, length in runs)
    assert set(lost) <= {GONE}


def test_what_cannot_be_lost_is_not_watched() -> None:
    async def main() -> None:
        with Vigil(Files([False]), 0).over(Standing(), Files([False]).judge):  # type: ignore[arg-type]
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_all_streams_are_judged_each_by_itself() -> None:
    async def main() -> None:
        files = Files([True, False])
        vigil = Vigil(files, 0)  # type: ignore[arg-type]
        lost: list[int] = []
        with ExitStack() as stack:
            for number in range(4):
                standing = Standing(revocable=True)
                standing.tell(lambda error, number=number: lost.append(number))  # type: ignore[misc]
                stack.enter_context(vigil.over(standing, files.judge if number % 2 else lambda: inf))
            await files.over.wait()
        assert set(lost) == {1, 3}

    asyncio.run(main())


def test_an_end_that_was_brought_forward_is_kept() -> None:
    """The files say once that the caller's right ends at a time, and nothing more after that."""
    files, standing = Files([True] * 20), Standing(revocable=True)
    ends, found = 10.0, list[float]()

    def judge() -> float:
        found.append(files.clock())
        if files.clock() >= ends:
            raise GONE
        return ends

    files.judge = judge  # type: ignore[method-assign]
    lost = asyncio.run(watched(files, standing))
    assert set(lost) == {GONE}
    assert len(found) == 2 and found[0] < ends <= found[1]


def test_one_that_cannot_be_judged_leaves_the_others_watched(caplog: Any) -> None:
    class Broken(Files):
        def known(self) -> tuple[object, ...]:
            found = super().known()
            if self.looks == 2:
                raise RecursionError
            return found

    lost = asyncio.run(watched(Broken([True, True, True, False]), Standing(revocable=True)))
    assert set(lost) == {GONE}
    assert "could not be judged" in caplog.text
