"""Work of requests that is too long for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Not asyncio's own threads: those belong to loads, each of which takes one for many seconds.
_threads = ThreadPoolExecutor(thread_name_prefix="aside")
_under_way: set[Future[Any]] = set()


async def aside(long: bool, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do work: at once, or if it is long in a thread, so that the loop goes on.

    Raises:
        Exception: whatever the work does.
    """
    if not long:
        return work(*arguments, **named)
    begun = _threads.submit(copy_context().run, partial(work, *arguments, **named))
    _under_way.add(begun)
    begun.add_done_callback(_under_way.discard)
    return await asyncio.wrap_future(begun)


async def idle() -> None:
    """Wait until no thread is at work, whether or not anybody still waits for what it does."""
    while left := list(_under_way):  # a copy, as threads take theirs out when they end
        await asyncio.gather(*map(asyncio.wrap_future, left), return_exceptions=True)
