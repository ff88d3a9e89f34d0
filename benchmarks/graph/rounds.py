"""Every size, number of threads and shape; what the rounds say."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np

from benchmarks.graph.contenders import PARTS, TORCH, Contenders, packed
from benchmarks.graph.files import OURS, PUBLISHED, Graphs
from benchmarks.graph.plan import PREDICATES, Plan
from benchmarks.graph.turns import OWN, Seconds, gmean, interleave, ratio

_REST_S = 0.03  # longer than ONNX Runtime's threads spin after a run


def measure(plan: Plan, made: dict[str, Graphs]) -> dict[str, Any]:
    """Medians and ratios by size, number of threads, and shape."""
    found: dict[str, Any] = {}
    for size in plan.sizes:
        found[size] = {str(threads): _shapes(plan, made[size], threads) for threads in plan.threads}
    return found


def _shapes(plan: Plan, graphs: Graphs, threads: int) -> dict[str, Any]:
    first = threads == plan.threads[0]
    contenders = Contenders.of(graphs, threads, plan.torch and first, tuple(PARTS) if first else ("act",))
    found = {}
    for shape in plan.shapes:
        name = "x".join(map(str, shape))
        # One thread's own time needs no silence: nobody spins.
        clocks, rest = (OWN, 0.0) if threads == 1 else (None, _REST_S)
        seconds = interleave(contenders.jobs(shape), plan.seconds, plan.least, rest, clocks)
        found[name] = {
            "rounds": len(seconds[PUBLISHED[0]]),
            "ms": {one: 1e3 * float(np.median(values)) for one, values in seconds.items()},
            "ratios": ratios(seconds, shape[0]),
        }
        told = ", ".join(f"{key} {value:.2f}" for key, value in found[name]["ratios"].items())
        print(f"{graphs.size}, {threads} threads, {name}: {told}", file=sys.stderr)
    del contenders
    gc.collect()
    return found


def ratios(seconds: Seconds, rows: int) -> dict[str, float]:
    """What one shape shows: the published graph's time, or PyTorch's, over ours.

    A sentence with k predicates is k + 1 full passes of the published graph. Of ours it is one of all heads but roles,
    and k rows of roles alone, which run packed.

    Args:
        seconds: of the contenders, round by round.
        rows: of the shape.
    """
    found = {}
    for ours, published in zip(OURS, PUBLISHED, strict=True):
        kind = ours.split()[1].lower()
        found[kind] = ratio(seconds[published], seconds[ours])
        if f"{ours} act" in seconds:
            found[f"{kind}_dialog_act"] = ratio(seconds[published], seconds[f"{ours} act"])
        if f"{ours} roles" in seconds:
            runs = PREDICATES * rows / packed(rows)
            taken = seconds[f"{ours} rest"] + runs * seconds[f"{ours} roles"]
            found[f"{kind}_srl"] = ratio((PREDICATES + 1) * seconds[published], taken)
        if TORCH in seconds:
            found[f"{kind}_over_torch"] = ratio(seconds[TORCH], seconds[ours])
    return found


def means(shapes: dict[str, Any]) -> dict[str, float]:
    """Geometric mean over the shapes of every ratio, and the least of INT8's."""
    rows = [one["ratios"] for one in shapes.values()]
    found = {name: gmean([row[name] for row in rows]) for name in rows[0]}
    return found | {"int8_worst": min(row["int8"] for row in rows)}
