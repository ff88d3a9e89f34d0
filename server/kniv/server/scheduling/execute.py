"""Running one batch, in a worker thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from kniv.server.errors import InferenceError
from kniv.server.scheduling.row import BatchTimes, Floats, Ints, Row


class Switch(Protocol):
    """Stops a run from another thread. ONNX Runtime's ``RunOptions`` is one."""

    terminate: bool


class Runner(Protocol):
    """What runs a padded batch, from any thread: see :class:`kniv.server.runtime.session.Session`."""

    def switch(self) -> Switch:
        """What is to stop one run."""
        ...

    def run(
        self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...], switch: Switch
    ) -> dict[str, Floats]:
        """Run one batch; fails soon after ``switch.terminate`` is set."""
        ...


@dataclass(frozen=True, slots=True)
class Executed:
    """What came out.

    Attributes:
        answers: of each row its answer, or the InferenceError that it met.
        suspects: places of the rows to be run again with fewer others: the run failed, or their outputs are not
            finite, which on a graph that scales whole batches may be another row's doing.
        times: what it took.
    """

    answers: list[Any]
    suspects: frozenset[int]
    times: BatchTimes


def execute(runner: Runner, rows: Sequence[Row[Any]], length: int, switch: Switch) -> Executed:
    """Run rows as one padded batch and read each one's answer.

    Args:
        runner: runs it.
        rows: that want the same outputs.
        length: subwords to pad to.
        switch: stops it.
    """
    started = perf_counter()
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], mask[place, : len(row.ids)] = row.ids, 1
    predicates = np.array([row.predicate for row in rows], dtype=np.int64)
    packed = perf_counter()
    try:
        outputs = runner.run(ids, mask, predicates, rows[0].outputs, switch)
    except Exception as error:
        times = BatchTimes(packed - started, perf_counter() - packed, 0)
        return failed(len(rows), "the model failed on this sentence", error, times)
    ran = perf_counter()
    answers: list[Any] = []
    suspects = set()
    for place, row in enumerate(rows):
        mine = {name: _cut(values[place], name, len(row.ids)) for name, values in outputs.items()}
        if broken := next((name for name, values in mine.items() if not np.isfinite(values).all()), None):
            suspects.add(place)
            answers.append(InferenceError(f"the model's output {broken} has values that are not finite"))
        else:
            answers.append(_read(row.read, mine))
    return Executed(answers, frozenset(suspects), BatchTimes(packed - started, ran - packed, perf_counter() - ran))


def failed(rows: int, what: str, error: Exception, times: BatchTimes) -> Executed:
    """What comes of a batch that could not be run: all of its rows are suspect."""
    return Executed([_failure(what, error)] * rows, frozenset(range(rows)), times)


def _read(read: Callable[[dict[str, Floats]], Any], outputs: dict[str, Floats]) -> Any:
    try:
        return read(outputs)
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
