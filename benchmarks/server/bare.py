"""What ONNX Runtime reaches alone: nothing but `run` calls on rows that were encoded, sorted and padded before.

The graph is the one that the server runs, rewritten and opened as it does, and no head runs that is not read.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.server.rows import Row, feed
from kniv.server.graphs.contract import RELATIONS
from kniv.server.runtime.providers import CPU, SessionSettings
from kniv.server.runtime.session import INPUTS, Session

Batch = tuple[list[str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows in a batch, runs at a time, threads in a run."""

    rows: int
    runs: int
    threads: int

    def __str__(self) -> str:
        return f"{self.runs}x{self.threads} threads, {self.rows} rows"


class Bare:
    """One graph's sessions: one a number of threads, shared by all runs of that number.

    Args:
        graph: the graph that the server is given.
    """

    def __init__(self, graph: Path) -> None:
        cores = len(os.sched_getaffinity(0))
        self._sessions = {threads: Session(graph, CPU, SessionSettings(threads=threads)) for threads in {1, cores}}
        self._shares = sorted({(1, cores), (cores, 1)})

    def sweep(self, rows: Sequence[Row], sizes: Sequence[int], repeats: int) -> dict[Split, float]:
        """Seconds of each size of a batch at each split of the cores, quickest first: the best of some passes."""
        splits = [Split(size, *share) for size in sizes for share in self._shares]
        taken: dict[Split, list[float]] = {split: [] for split in splits}
        for _ in range(repeats):
            for split in splits:
                taken[split].append(self.seconds(rows, split))
        return {split: min(taken[split]) for split in sorted(splits, key=lambda split: min(taken[split]))}

    def seconds(self, rows: Sequence[Row], split: Split) -> float:
        """Seconds that all rows take, every one once."""
        session, ready = self._sessions[split.threads], batches(rows, split.rows)
        with ThreadPoolExecutor(split.runs) as executor:
            begun = time.monotonic()
            list(executor.map(lambda batch: _run(session, *batch), ready))
            return time.monotonic() - begun


def _run(session: Session, outputs: list[str], given: dict[str, Any]) -> None:
    best = RELATIONS if session.relation_weight is not None else ("label_scores",)
    wanted = [part for name in outputs for part in (best if name == "label_scores" else (name,))]
    session.run(*(given[name] for name in INPUTS), tuple(wanted))


def batches(rows: Sequence[Row], size: int) -> list[Batch]:
    """Rows of the same outputs and near lengths, the longest first, so that all runs end together."""
    ranked = sorted(rows, key=lambda row: (row.outputs, len(row.ids)))
    made: list[Batch] = []
    for outputs, alike in itertools.groupby(ranked, key=lambda row: row.outputs):
        group = list(alike)
        made += [(list(outputs), feed(group[at : at + size])) for at in range(0, len(group), size)]
    return sorted(made, key=lambda batch: -batch[1]["input_ids"].size)
