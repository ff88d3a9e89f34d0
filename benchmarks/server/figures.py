"""Figures of interleaved runs, and how they are kept."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

Found = dict[str, Any]

_QUIET_CORES, _ENOUGH = 0.1, 3
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")  # that decide how quick INT8 products are


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of what the rounds found."""
    return {"median": float(np.median(values)), "least": min(values), "greatest": max(values)}


def quiet(rounds: Sequence[Found]) -> Sequence[Found]:
    """The rounds during which others left the machine alone; all of them if these are fewer than three."""
    calm = [one for one in rounds if one["others_cores"] <= _QUIET_CORES]
    return calm if len(calm) >= _ENOUGH else rounds


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile; of nothing it is NaN."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """The trend of a noisy curve: the median slope between any two of its points (Theil 1950, Sen 1968)."""
    x, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    before, after = np.triu_indices(len(x), k=1)
    return float(np.median((y[after] - y[before]) / (x[after] - x[before])))


def machine() -> dict[str, Any]:
    """What of the machine the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "flags": [flag for flag in _FLAGS if flag in _cpu_flags()],
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
        "grpcio": version("grpcio"),
    }


def kind() -> str:
    """What the names of graphs' results end with: machines without VNNI have theirs beside those of the others."""
    return "" if {"avx512_vnni", "avx_vnni"} & _cpu_flags() else "-without-vnni"


def write(path: Path, result: dict[str, Any]) -> None:
    """Keep a benchmark's result as JSON, rounded to what means something; NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded({"machine": machine()} | result), indent=1)
    # Lists of numbers, which are long here, take a line each.
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text)
    path.write_text(text + "\n", encoding="utf-8")


def _cpu_flags() -> set[str]:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())


def _rounded(value: Any) -> Any:
    match value:
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case float():
            return float(f"{value:.4g}") if np.isfinite(value) else None
    return value
