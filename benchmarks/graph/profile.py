"""Where the time of a run goes, by type of operator, as ONNX Runtime's profiler tells it."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks.graph.contenders import DISABLED, our_session
from benchmarks.graph.files import Feed

_HOLDERS = frozenset({"If", "Loop", "Scan"})  # their time is that of what they hold, which is told, too


def shares(path: Path, given: Feed, runs: int) -> dict[str, float]:
    """Share of each operator's time in that of all, the greatest first.

    Args:
        path: a graph of ours.
        given: what it runs on, after one run that does not count.
        runs: that count.
    """
    # What the server's sessions are set to, and a profile with it.
    options = our_session(path, threads=1).get_session_options()
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED
        )
        for _ in range(runs + 1):
            session.run(None, given)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return by_operator(events)


def by_operator(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Shares of the operators' time in a profile, the first run left out."""
    first = min((one["ts"] + one["dur"] for one in events if one["name"] == "model_run"), default=0)
    taken: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time") or event["ts"] < first:
            continue
        operator = event["args"]["op_name"]
        if operator not in _HOLDERS:
            taken[operator] += event["dur"]
    whole = sum(taken.values())
    return {name: taken[name] / whole for name in sorted(taken, key=lambda name: -taken[name])}
