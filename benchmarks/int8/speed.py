"""Times of whole graphs, in turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.graph.contenders import ALL, flags
from benchmarks.graph.turns import OWN, gmean, interleave, ratio
from kniv.server.graphs.contract import TASKS_INPUT
from kniv.training.export import INPUTS

SHAPES = ((1, 24), (1, 64), (8, 24), (8, 64))
_LEAST = 5  # rounds
_TOKENS = 20_000  # ids below which inputs are drawn


def ratios(paths: dict[str, Path], reference: str, seconds: float) -> dict[str, dict[str, float]]:
    """The reference's time over each graph's, by shape and as a geometric mean.

    Args:
        paths: graphs by name.
        reference: one of the names.
        seconds: least time that one shape is measured.
    """
    sessions = {name: _session(path) for name, path in paths.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in paths}
    for rows, length in SHAPES:
        ids = np.random.default_rng(0).integers(5, _TOKENS, (rows, length))
        feed = dict(zip(INPUTS, (ids, np.ones_like(ids), np.ones(rows, dtype=np.int64)), strict=True))
        jobs: dict[str, Callable[[], object]] = {}
        for name, running in sessions.items():
            rewritten = any(node.name == TASKS_INPUT for node in running.get_overridable_initializers())
            # All five heads; label scores between all pairs, which the server never asks for, would run with the rest.
            asked = {TASKS_INPUT: flags(ALL)} if rewritten else {}
            jobs[name] = partial(running.run, None, feed | asked)
        taken = interleave(jobs, seconds, _LEAST, clocks=OWN)
        for name in paths:
            found[name][f"{rows}x{length}"] = round(ratio(taken[reference], taken[name]), 3)
    for row in found.values():
        row["gmean"] = round(gmean(list(row.values())), 3)
    return found


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # As the server opens them: the fused residual and norm is slower on CPUs than the operators that it replaces.
    disabled = ["SkipLayerNormFusion"]
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
