"""Work of requests that is too long for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Not asyncio's own threads: those belong to loads, each of which takes one for many seconds.
_threads = ThreadPoolExecutor(thread_name_prefix="aside")


async def aside(long: bool, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do work: at once, or if it is long in a thread, so that the loop goes on.

    Raises:
        Exception: whatever the work does.
    """
    if not long:
        return work(*arguments, **named)
    work_here = partial(copy_context().run, work, *arguments, **named)
    return await asyncio.get_running_loop().run_in_executor(_threads, work_here)
