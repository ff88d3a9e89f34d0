"""The one seam between pipeline and model: rows in, answers out."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np

from kniv.server.errors import InferenceError
from kniv.server.scheduling.forming import BatchLimits, form
from kniv.server.scheduling.row import BatchTimes, Done, Floats, Ints, Row

T = TypeVar("T")

_IN_SIGHT = 256


class Runner(Protocol):
    """What runs a padded batch: see :meth:`kniv.server.runtime.session.Session.run`."""

    def run(self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...]) -> dict[str, Floats]:
        """Run one batch."""
        ...


@dataclass(slots=True, eq=False)
class _Waiting:
    row: Row[Any]
    arrived: float
    answer: asyncio.Future[Done[Any]]


class Batcher:
    """Packs rows of all callers into batches and runs ``parallel`` of them at a time.

    Rows whose caller has gone are dropped before dispatch. A batch that fails is run again row by row,
    so that only the guilty row fails.

    Args:
        runner: runs a padded batch, from any thread.
        executor: threads for the runs.
        parallel: batches in flight at once.
        limits: size of a batch.
        observe: told of each batch that has run: its rows, and what it took.
    """

    def __init__(
        self,
        runner: Runner,
        executor: Executor,
        parallel: int,
        limits: BatchLimits,
        observe: Callable[[int, BatchTimes], None] = lambda rows, times: None,
    ) -> None:
        self._runner, self._executor, self._limits = runner, executor, limits
        self._observe = observe
        self._waiting: list[_Waiting] = []  # most urgent first, the first come among equals
        self._free = parallel
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, row: Row[T]) -> Done[T]:
        """Wait for a row's turn and answer.

        Raises:
            InferenceError: the model or the reading of its outputs failed on this row.
        """
        waiting = _Waiting(row, perf_counter(), asyncio.get_running_loop().create_future())
        bisect.insort_right(self._waiting, waiting, key=lambda one: one.row.priority)
        self._dispatch()
        return await waiting.answer

    def _dispatch(self) -> None:
        """Start batches while there is a free place and somebody waits."""
        while self._free and self._waiting:
            # Enough to choose from; looking at all that wait would cost more than it gains when thousands do.
            near = [waiting for waiting in self._waiting[:_IN_SIGHT] if not waiting.answer.done()]
            chosen = form([waiting.row for waiting in near], self._limits) if near else []
            batch = [near[index] for index in chosen]
            taken = set(chosen)
            self._waiting[:_IN_SIGHT] = [waiting for index, waiting in enumerate(near) if index not in taken]
            if not batch:
                continue
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._serve(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free += 1
        self._dispatch()

    async def _serve(self, batch: Sequence[_Waiting]) -> None:
        loop, started = asyncio.get_running_loop(), perf_counter()
        try:
            run = loop.run_in_executor(self._executor, run_rows, self._runner, [w.row for w in batch])
            answers, times = await run
            self._observe(len(batch), times)
        except Exception as error:
            answers = [_failure("the batch could not be run", error)] * len(batch)
            times = BatchTimes(0, 0, 0)
        for waiting, answer in zip(batch, answers, strict=True):
            # A caller may leave between the run and here.
            with contextlib.suppress(asyncio.InvalidStateError):
                if isinstance(answer, Exception):
                    waiting.answer.set_exception(answer)
                else:
                    waiting.answer.set_result(Done(answer, started - waiting.arrived, times))


def run_rows(runner: Runner, rows: Sequence[Row[Any]]) -> tuple[list[Any], BatchTimes]:
    """Run rows as one padded batch and read each one's answer.

    Returns:
        For each row its answer, or the InferenceError that it alone met; and what it all took.
    """
    started = perf_counter()
    length = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], mask[place, : len(row.ids)] = row.ids, 1
    predicates = np.array([row.predicate for row in rows], dtype=np.int64)
    packed = perf_counter()
    try:
        outputs = runner.run(ids, mask, predicates, rows[0].outputs)
    except Exception as error:
        if len(rows) > 1:
            answers = [answer for row in rows for answer in run_rows(runner, [row])[0]]
        else:
            answers = [_failure("the model failed on this sentence", error)]
        return answers, BatchTimes(packed - started, perf_counter() - packed, 0)
    ran = perf_counter()
    answers = [_answer(row.read, outputs, place, len(row.ids)) for place, row in enumerate(rows)]
    return answers, BatchTimes(packed - started, ran - packed, perf_counter() - ran)


def _answer(read: Callable[[dict[str, Floats]], Any], outputs: dict[str, Floats], place: int, length: int) -> Any:
    mine = {name: _cut(values[place], name, length) for name, values in outputs.items()}
    if broken := [name for name, values in mine.items() if not np.isfinite(values).all()]:
        return InferenceError(f"the model's output {broken[0]} has values that are not finite")
    try:
        return read(mine)
    except Exception as error:
        return _failure("the model's output could not be decoded", error)


def _cut(values: Floats, name: str, length: int) -> Floats:
    """One row's output without its padding."""
    if name == "cls_logits":
        return values
    if name in ("arc_scores", "label_scores"):
        return values[:length, :length]
    return values[:length]


def _failure(what: str, error: Exception) -> InferenceError:
    failure = InferenceError(f"{what}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
