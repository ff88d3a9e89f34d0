from __future__ import annotations

import asyncio
import gc
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from kniv.server.aside import aside, idle


def test_what_is_short_is_done_in_the_loops_own_thread_and_what_is_long_is_not() -> None:
    async def both() -> tuple[int, int]:
        return await aside(False, threading.get_ident), await aside(True, threading.get_ident)

    short, long = asyncio.run(both())
    assert short == threading.get_ident() != long


@pytest.mark.parametrize("long", [False, True])
def test_arguments_results_and_errors_pass(long: bool) -> None:
    assert asyncio.run(aside(long, int, "ff", base=16)) == 255
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(aside(long, int, "fg", base=16))


@pytest.mark.parametrize("long", [False, True])
def test_it_is_done_in_its_callers_context(long: bool) -> None:
    caller: ContextVar[str] = ContextVar("caller")

    async def called() -> str:
        caller.set("somebody")
        return await aside(long, caller.get)

    assert asyncio.run(called()) == "somebody"


def test_loads_that_hold_all_of_asyncios_threads_hold_up_no_request() -> None:
    ended = threading.Event()

    async def crowded() -> int:
        loads = [asyncio.create_task(asyncio.to_thread(ended.wait)) for _ in range(64)]  # more than there are threads
        await asyncio.sleep(0)
        try:
            return await aside(True, len, "request")
        finally:
            ended.set()
            await asyncio.gather(*loads)

    assert asyncio.run(asyncio.wait_for(crowded(), 60)) == 7


def test_a_thread_is_at_work_until_its_work_has_ended_though_nobody_waits_for_it() -> None:
    begun, ended = threading.Event(), threading.Event()
    complaints: list[dict[str, Any]] = []

    def work() -> None:
        begun.set()
        ended.wait()
        raise OSError("which nobody waits for, and nobody is to hear of")

    async def left() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, complaint: complaints.append(complaint))
        await idle()
        caller = asyncio.create_task(aside(True, work))
        assert await asyncio.to_thread(begun.wait, 60)
        caller.cancel()
        rest = asyncio.create_task(idle())
        await asyncio.wait({caller})
        assert not rest.done()
        ended.set()
        await rest
        del rest
        gc.collect()

    try:
        asyncio.run(asyncio.wait_for(left(), 60))
    finally:
        ended.set()
    assert not complaints
