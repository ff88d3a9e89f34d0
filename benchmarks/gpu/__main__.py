"""The seed's runtime table on a GPU: published graph, ours and PyTorch; FP32, FP16 and INT8; three ways to run.

    python -m benchmarks.gpu          on a machine with an NVIDIA GPU: some minutes
    python -m benchmarks.gpu --dry    on the CPU: runs every line of code that a CPU can; its times mean nothing

Weights are random at the published small shape. Contenders take turns; every figure is a median. Cells that cannot be
filled say why. Without a GPU and without --dry it ends with an error and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.contenders import PRECISIONS, Contender, contenders
from benchmarks.gpu.device import Device, gpu, runtime
from benchmarks.gpu.jobs import MODES, Job, SkippedError
from benchmarks.graph.files import feed, graphs
from benchmarks.graph.plan import QUICK, Shape
from benchmarks.graph.tables import table
from benchmarks.graph.turns import interleave
from benchmarks.server import figures

_ROOT = Path(__file__).resolve().parents[2]
_SHAPES: tuple[Shape, ...] = ((1, 64), (1, 128), (8, 64), (32, 128))
_DRY_SHAPES: tuple[Shape, ...] = ((1, 8), (2, 16))
_SECONDS, _ROUNDS = 5.0, 20


def main() -> None:
    """Measure, write and print."""
    options = _options()
    found = gpu()
    if found is None and not options.dry:
        sys.exit("no NVIDIA GPU here (nvidia-smi shows none); DRY=1 runs the same on the CPU, without worth")
    device = Device("cpu" if options.dry else "cuda")
    made = graphs(options.work, "small", QUICK.vocabulary if options.dry else None)
    everyone = list(contenders(made, device))
    shapes = _DRY_SHAPES if options.dry else _SHAPES
    cells = [cell for shape in shapes for cell in measure(everyone, shape, made.vocabulary, options.dry)]
    result = {"dry": options.dry, "gpu": found, "versions": runtime(), "cells": cells}
    output = options.output or (_ROOT / "benchmarks" / "results" / ("quick" if options.dry else ""))
    figures.write(output / "gpu.json", result)
    print(report(result))
    print(json.dumps(summary(cells) | {"gpu": found["gpu"] if found else None, "dry": options.dry}))


def measure(everyone: Sequence[Contender], shape: Shape, vocabulary: int, dry: bool) -> list[dict[str, Any]]:
    """Every contender's median in every way at one shape, or why there is none."""
    given = feed(*shape, vocabulary)
    cells: list[dict[str, Any]] = []
    jobs: dict[str, Job] = {}
    for mode in MODES:
        for one in everyone:
            cell = {"shape": "x".join(map(str, shape)), "mode": mode, "name": one.name, "precision": one.precision}
            try:
                jobs[str(len(cells))] = tried(one.job(mode, given))
            except SkippedError as reason:
                cell["skipped"] = str(reason)
            except Exception as error:  # what a provider refuses is a finding, and ends no other cell
                cell["skipped"] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            cells.append(cell)
    seconds = interleave(jobs, 0.0 if dry else _SECONDS, 1 if dry else _ROUNDS)
    for place, values in seconds.items():
        cells[int(place)] |= {"ms": 1e3 * float(np.median(values)), "rows_per_s": shape[0] / float(np.median(values))}
    return cells


def tried(job: Job) -> Job:
    """A job that has run: what is refused is refused at the first runs, of which CUDA graphs take some to capture."""
    for _ in range(3):
        job()
    return job


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Geometric mean over the shapes of the published graph's time over ours, each in the way that is its best."""
    found: dict[str, float] = {}
    for precision in PRECISIONS:
        ratios = []
        for shape in dict.fromkeys(cell["shape"] for cell in cells):
            best = {
                name: min((cell["ms"] for cell in cells if _is(cell, shape, name, precision)), default=None)
                for name in ("published", "ours")
            }
            if best["published"] is not None and best["ours"] is not None:
                ratios.append(best["published"] / best["ours"])
        if ratios:
            found[f"{precision.lower()}_gmean"] = round(float(np.exp(np.mean(np.log(ratios)))), 3)
    return found


def report(result: dict[str, Any]) -> str:
    """A Markdown table, and below it why cells are empty."""
    where = result["gpu"]["gpu"] + ", driver " + result["gpu"]["driver"] if result["gpu"] else "no GPU"
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    dry = " Dry run on the CPU: these times mean nothing." if result["dry"] else ""
    columns = list(dict.fromkeys((cell["name"], cell["precision"]) for cell in result["cells"]))
    by_place = {(c["shape"], c["mode"], c["name"], c["precision"]): c for c in result["cells"]}
    rows = []
    for shape, mode in dict.fromkeys((cell["shape"], cell["mode"]) for cell in result["cells"]):
        cells = [by_place[shape, mode, *column] for column in columns]
        rows.append([shape.replace("x", " x "), mode, *(f"{c['ms']:.2f}" if "ms" in c else "–" for c in cells)])
    head = ["rows x subwords", "way", *(" ".join(column) + ", ms" for column in columns)]
    empty = dict.fromkeys(
        f"- {c['name']} {c['precision']}, {c['mode']}: {c['skipped']}" for c in result["cells"] if "skipped" in c
    )
    return "\n".join([f"{where}; {versions}.{dry}", "", table(head, rows), "", *empty])


def _is(cell: dict[str, Any], shape: str, name: str, precision: str) -> bool:
    return "ms" in cell and (cell["shape"], cell["name"], cell["precision"]) == (shape, name, precision)


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true", help="on the CPU, small shapes, into results/quick")
    parser.add_argument("--work", type=Path, default=_ROOT / "runs" / "benchmarks" / "graph", help="folder of graphs")
    parser.add_argument("--output", type=Path, help="folder of the result; benchmarks/results by default")
    return parser.parse_args()


if __name__ == "__main__":
    main()
