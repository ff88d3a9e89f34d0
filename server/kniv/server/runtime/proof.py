"""How far a rewritten graph's answers are from its source's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kniv.server.graphs.contract import TASKS, TASKS_INPUT
from kniv.server.runtime.providers import CPU, DEFAULTS, open_session
from kniv.server.runtime.session import INPUTS, OUTPUTS, Floats, Ints

_LENGTHS = (2, 9, 24, 70)


@dataclass(frozen=True, slots=True)
class Proof:
    """Largest differences of any output, over 1 + the source's absolute value.

    Attributes:
        alone: of rows run one at a time.
        together: of the same rows in one padded batch, against the source's answers alone.
    """

    alone: float
    together: float


def compare(source: Path, made: Path, vocabulary: int) -> Proof:
    """Run both graphs on rows of random subwords on the CPU.

    Args:
        source: the graph as it was.
        made: the graph as it is now.
        vocabulary: subword ids are below it.

    Raises:
        RepositoryError: a graph cannot be loaded.
    """
    random = np.random.default_rng(0)
    rows = [random.integers(0, vocabulary, (1, length)) for length in _LENGTHS]
    marked = [np.array([length // 2]) for length in _LENGTHS]
    before = open_session(source, source, CPU, DEFAULTS)
    wanted = [
        before.run(list(OUTPUTS), _feed(ids, np.ones_like(ids), at)) for ids, at in zip(rows, marked, strict=True)
    ]
    del before
    after = open_session(made, made, CPU, DEFAULTS)
    tasks = {}
    if any(node.name == TASKS_INPUT for node in after.get_overridable_initializers()):
        tasks[TASKS_INPUT] = np.ones(len(TASKS), dtype=bool)
    alone = together = 0.0
    for ids, at, expected in zip(rows, marked, wanted, strict=True):
        found = after.run(list(OUTPUTS), {**_feed(ids, np.ones_like(ids), at), **tasks})
        alone = max(alone, *map(_distance, expected, found))
    batch = np.zeros((len(rows), max(_LENGTHS)), dtype=np.int64)
    mask = np.zeros_like(batch)
    for place, ids in enumerate(rows):
        batch[place, : ids.size], mask[place, : ids.size] = ids[0], 1
    answers = after.run(list(OUTPUTS), {**_feed(batch, mask, np.concatenate(marked)), **tasks})
    for place, expected in enumerate(wanted):
        cut = [
            answer[place : place + 1][tuple(map(slice, one.shape))]
            for one, answer in zip(expected, answers, strict=True)
        ]
        together = max(together, *map(_distance, expected, cut))
    return Proof(alone, together)


def _feed(ids: Ints, mask: Ints, predicates: Ints) -> dict[str, Ints]:
    return dict(zip(INPUTS, (ids, mask, predicates), strict=True))


def _distance(expected: Floats, found: Floats) -> float:
    difference = np.abs(expected - found) / (1 + np.abs(expected))
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")
