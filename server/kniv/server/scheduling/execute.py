"""Running one batch and reading its answers, in worker threads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from kniv.server.errors import InferenceError
from kniv.server.scheduling.row import Floats, Ints, Row


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
    """What came out of a run.

    Attributes:
        outputs: by name; what the failed rows have in them means nothing.
        failures: by place, the rows to be run again with fewer others: the run failed, or their outputs are not
            finite, which on a graph that scales whole batches may be another row's doing.
        input, infer: seconds that it took to pack the rows, and to run them.
    """

    outputs: dict[str, Floats]
    failures: dict[int, InferenceError]
    input: float = 0.0
    infer: float = 0.0


def execute(runner: Runner, rows: Sequence[Row[Any]], length: int, switch: Switch) -> Executed:
    """Run rows as one padded batch.

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
        return failed(len(rows), "the model failed on this sentence", error, packed - started, perf_counter() - packed)
    failures = {}
    if not all(np.isfinite(values).all() for values in outputs.values()):
        failures = {place: failure for place, row in enumerate(rows) if (failure := _broken(outputs, place, row))}
    return Executed(outputs, failures, packed - started, perf_counter() - packed)


def failed(rows: int, what: str, error: Exception, packed: float = 0.0, ran: float = 0.0) -> Executed:
    """What comes of a batch that could not be run: all of its rows are to be run again."""
    return Executed({}, dict.fromkeys(range(rows), _failure(what, error)), packed, ran)


def read(result: Executed, rows: Sequence[Row[Any]], places: Collection[int]) -> dict[int, Any]:
    """By place, the answers of the rows there: what each made of its outputs, or the InferenceError that it met."""
    return {place: _read(result.outputs, place, rows[place]) for place in places}


def _read(outputs: dict[str, Floats], place: int, row: Row[Any]) -> Any:
    try:
        return row.read(_mine(outputs, place, row))
    except Exception as error:
        return _failure("the model's output could not be decoded", error)


def _mine(outputs: dict[str, Floats], place: int, row: Row[Any]) -> dict[str, Floats]:
    """A row's part of the outputs, without its padding."""
    return {name: _cut(values[place], name, len(row.ids)) for name, values in outputs.items()}


def _broken(outputs: dict[str, Floats], place: int, row: Row[Any]) -> InferenceError | None:
    for name, values in _mine(outputs, place, row).items():
        if not np.isfinite(values).all():
            return InferenceError(f"the model's output {name} has values that are not finite")
    return None


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
