"""Who runs: the published graph, ours and PyTorch, each as one gets it.

The published graph runs with ONNX Runtime's defaults (all cores, threads that spin), as whoever downloads it has them;
ours with the settings of the server's own sessions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.graph.files import OURS, PUBLISHED, Feed, Graphs, feed, pytorch
from benchmarks.graph.plan import PACKED, Shape
from kniv.server.graphs.contract import HEADS, TASKS, TASKS_INPUT
from kniv.server.runtime.providers import CPU, SessionSettings, open_session

TORCH = "PyTorch FP32"
# What is asked of ours: the five heads; all of them but roles; roles alone; the dialog act alone.
ALL = "all"
DISABLED = ["SkipLayerNormFusion"]  # as the server's sessions have it; it is no part of their options
PARTS = {"rest": ("pos", "ner", "dep", "cls"), "roles": ("srl",), "act": ("cls",)}

Job = Callable[[], object]


def published_session(path: Path, threads: int, disabled: list[str] | None = None) -> ort.InferenceSession:
    """A session as the model card opens it; fewer threads than cores only where they are asked for."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads != cores():
        options.intra_op_num_threads = threads
    return ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled or []
    )


def our_session(path: Path, threads: int) -> ort.InferenceSession:
    """A session as the server opens it; several threads spin as the published graph's do, as graphs are compared."""
    if threads > 1:
        return published_session(path, threads, DISABLED)
    return open_session(path, path, CPU, SessionSettings(threads=threads))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Contenders:
    """Everything that runs at one number of threads.

    Attributes:
        sessions: of the four graphs.
        torch: the PyTorch model, if it takes part.
        vocabulary: ids are below it.
        parts: which of :data:`PARTS` are run of ours, beside all heads.
    """

    sessions: Mapping[str, ort.InferenceSession]
    torch: Callable[[Feed], object] | None
    vocabulary: int
    parts: tuple[str, ...]

    @classmethod
    def of(cls, graphs: Graphs, threads: int, torch: bool, parts: tuple[str, ...] = tuple(PARTS)) -> Contenders:
        """Open all sessions.

        Args:
            graphs: the files.
            threads: of every run.
            torch: whether PyTorch takes part.
            parts: what is run of ours beside all heads.
        """
        sessions = {name: published_session(graphs.paths[name], threads) for name in PUBLISHED}
        sessions |= {name: our_session(graphs.paths[name], threads) for name in OURS}
        model = None
        if torch:
            from torch import set_num_threads

            set_num_threads(threads)
            model = pytorch(graphs.size, graphs.vocabulary)
        return cls(sessions, model, graphs.vocabulary, parts)

    def jobs(self, shape: Shape) -> dict[str, Job]:
        """A run of each at a shape; roles alone run in batches of :data:`PACKED` rows at least."""
        given = feed(*shape, self.vocabulary)
        jobs: dict[str, Job] = {name: partial(self.sessions[name].run, None, given) for name in PUBLISHED}
        for name in OURS:
            for part in (ALL, *self.parts):
                rows = packed(shape[0]) if part == "roles" else shape[0]
                asked = feed(rows, shape[1], self.vocabulary) | {TASKS_INPUT: flags(part)}
                jobs[name if part == ALL else f"{name} {part}"] = partial(self.sessions[name].run, None, asked)
        if self.torch is not None:
            jobs[TORCH] = partial(self.torch, given)
        return jobs


def packed(rows: int) -> int:
    """Rows of roles that run together where so many sentences do."""
    return max(rows, PACKED)


def flags(part: str) -> np.ndarray:
    """What a rewritten graph is asked for: one of :data:`PARTS`, or :data:`ALL` heads."""
    asked = HEADS if part == ALL else PARTS[part]
    return np.array([task in asked for task in TASKS])
