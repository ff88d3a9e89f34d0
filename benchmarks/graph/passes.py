"""What each pass is worth: the graph made without it, over the whole one.

Passes lean on one another, so that these figures do not add up: without ``constants`` the attention is not recognised,
say, and both gains are lost. What is measured is one thread's own time of all heads.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import onnxruntime as ort

from benchmarks.graph.contenders import ALL, flags, our_session
from benchmarks.graph.files import Feed, Graphs, calibrated, feed
from benchmarks.graph.plan import Plan, Shape
from benchmarks.graph.turns import OWN, interleave, ratio
from kniv.server.graphs.contract import TASKS_INPUT
from kniv.server.graphs.pipeline import PASSES, optimise

SHAPES: tuple[Shape, ...] = ((1, 24), (8, 24), (8, 64))
_WHOLE = "all passes"
_NOTHING, _NEEDED = "no change", "needed"  # it finds nothing in such a graph; others cannot do without it


def measure(graphs: Graphs, plan: Plan) -> dict[str, dict[str, dict[str, float | str]]]:
    """By precision, pass and shape the time without the pass over that with all, or in words why there is none."""
    return {kind: _of_kind(graphs, plan, int8) for kind, int8 in (("FP32", False), ("INT8", True))}


def _of_kind(graphs: Graphs, plan: Plan, int8: bool) -> dict[str, dict[str, float | str]]:
    found: dict[str, dict[str, float | str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        _write(graphs, whole, int8, "")
        for step in PASSES:
            name = step.__module__.rpartition(".")[2]
            path = Path(folder) / f"{name}.onnx"
            try:
                _write(graphs, path, int8, name)
            except Exception as error:  # others count on what it does, the opset say
                found[name] = dict.fromkeys(map(_named, SHAPES), _NEEDED)
                print(f"nothing goes without {name}: {type(error).__name__}", file=sys.stderr)
                continue
            if path.read_bytes() == whole.read_bytes():
                found[name] = dict.fromkeys(map(_named, SHAPES), _NOTHING)
            else:
                found[name] = dict(_ratios(whole, path, graphs.vocabulary, plan))
            print(f"{'INT8' if int8 else 'FP32'} without {name}: {found[name]}", file=sys.stderr)
            path.unlink()
    return found


def _write(graphs: Graphs, path: Path, int8: bool, left_out: str) -> None:
    steps = tuple(step for step in PASSES if step.__module__.rpartition(".")[2] != left_out)
    calibrate = calibrated(graphs.vocabulary) if int8 else None
    done = optimise(onnx.load(graphs.paths["published FP32"]), calibrate, passes=steps)
    path.write_bytes(done.model.SerializeToString(deterministic=True))


def _ratios(whole: Path, without: Path, vocabulary: int, plan: Plan) -> dict[str, float]:
    sessions = {name: our_session(path, 1) for name, path in ((_WHOLE, whole), ("without", without))}
    found = {}
    for shape in SHAPES:
        given: Feed = feed(*shape, vocabulary) | {TASKS_INPUT: flags(ALL)}
        jobs: dict[str, Callable[[], object]] = {
            name: partial(one.run, None, _known(one, given)) for name, one in sessions.items()
        }
        taken = interleave(jobs, plan.seconds / 2, plan.least, clocks=OWN)
        found[_named(shape)] = ratio(taken["without"], taken[_WHOLE])
    return found


def _known(session: ort.InferenceSession, given: Feed) -> Feed:
    """What of the inputs a graph has: one that lacks a pass may not have its heads in branches."""
    names = {node.name for node in (*session.get_inputs(), *session.get_overridable_initializers())}
    return {name: value for name, value in given.items() if name in names}


def _named(shape: Shape) -> str:
    return "x".join(map(str, shape))
