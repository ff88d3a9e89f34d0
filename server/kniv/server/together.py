"""Work done side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in the order of the work. The first failure gives up what is not done, and is raised by itself."""
    pieces = list(work)
    if len(pieces) == 1:  # as most calls have one text, and most texts one sentence: a task for it would be dear
        return [await pieces[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in pieces]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Results of two pieces of work of different kinds; the first failure gives up the other."""
    work: list[Coroutine[Any, Any, Any]] = [one, other]
    first, second = await together(work)
    return first, second
