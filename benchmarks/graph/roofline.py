"""How near a run comes to what the machine could do: each part's operations and bytes against measured ceilings.

A part cannot take less time than its operations at the rate of a product alone, nor than its bytes at the rate of a
copy (Williams, Waterman & Patterson 2009). The sum over the parts, over the time of a run, is the fraction reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.graph import ceilings, profile
from benchmarks.graph.contenders import ALL, Contenders, flags
from benchmarks.graph.files import OURS, PUBLISHED, Graphs, feed
from benchmarks.graph.parts import Part, parts
from benchmarks.graph.plan import Plan, Shape
from benchmarks.graph.tables import machine_line, table
from benchmarks.graph.turns import OWN, interleave
from benchmarks.server.figures import machine
from kniv.server.graphs.contract import TASKS_INPUT

BEGIN, END = "<!-- begin: roofline -->", "<!-- end: roofline -->"

_SHAPES: tuple[Shape, ...] = ((1, 24), (8, 24), (8, 64), (32, 128))
_PROFILED: Shape = (8, 64)
_PROFILE_RUNS = 5
_FEW = 10  # runs of a product, below which the ceilings are those of a quick run
_SHOWN = 12  # operators of the profile


def measure(graphs: Graphs, plan: Plan) -> dict[str, Any]:
    """Ceilings, times and fractions on one thread, as the server runs batches; the profile of ours at 8 x 64."""
    contenders = Contenders.of(graphs, threads=1, torch=False, parts=())
    shapes = _SHAPES if plan.roofline_repeats >= _FEW else _SHAPES[1:2]
    found: dict[str, Any] = {"machine": machine(), "quick": plan.roofline_repeats < _FEW, "shapes": {}, "profile": {}}
    for shape in shapes:
        limits = ceilings.measure(shape[0] * shape[1], plan.roofline_repeats)
        seconds = interleave(contenders.jobs(shape), plan.seconds / 2, plan.least, clocks=OWN)
        taken = {name: float(np.median(values)) for name, values in seconds.items()}
        found["shapes"]["x".join(map(str, shape))] = judged(shape, limits, taken)
    profiled = _PROFILED if _PROFILED in shapes else shapes[-1]
    found["profiled"] = "x".join(map(str, profiled))
    for name in OURS:
        given = feed(*profiled, graphs.vocabulary) | {TASKS_INPUT: flags(ALL)}
        found["profile"][name] = profile.shares(graphs.paths[name], given, _PROFILE_RUNS)
    return found


def judged(shape: Shape, limits: Mapping[str, Any], taken: Mapping[str, float]) -> dict[str, Any]:
    """One shape: what each part takes at best, and which fraction of a run's time that is.

    Args:
        shape: rows and subwords.
        limits: as :func:`ceilings.measure` gives them.
        taken: seconds of a run of each of the four graphs.
    """
    rates = {kind: ceilings.ceiling(dict(limits), kind) for kind in ("fp32", "int8")}
    needed = parts(*shape)
    best = {kind: {part.name: _least(part, kind, rates, limits) for part in needed} for kind in rates}
    return {
        "limits": dict(limits),
        "ceilings": rates,
        "parts": {part.name: [part.operations, part.bytes(4), part.bytes(1)] for part in needed},
        "published_operations": sum(part.operations for part in parts(*shape, published=True)),
        "least_ms": {kind: {name: 1e3 * value for name, value in one.items()} for kind, one in best.items()},
        "taken_ms": {name: 1e3 * value for name, value in taken.items()},
        "reached": {name: sum(best[name.split()[1].lower()].values()) / taken[name] for name in PUBLISHED + OURS},
    }


def block(result: Mapping[str, Any]) -> str:
    """The text between the marks of docs/roofline.md, marks included."""
    quick = " **A quick run, whose figures are without worth.**" if result["quick"] else ""
    made = [BEGIN, f"{machine_line(result['machine'])}; one thread.{quick}", _ceilings(result), _reached(result)]
    for name in result["shapes"]:
        if name == result["profiled"]:
            made += [f"**Parts at {name.replace('x', ' x ')}**", _parts(result["shapes"][name])]
    made += [f"**Profile at {result['profiled'].replace('x', ' x ')}**, share of all operators' time", _profile(result)]
    return "\n\n".join([*made, END])


def _least(part: Part, kind: str, rates: Mapping[str, float], limits: Mapping[str, Any]) -> float:
    rate = rates["int8" if kind == "int8" and part.integer else "fp32"]
    moved = part.bytes(1 if kind == "int8" else 4) / limits["copy_bytes_per_s"]
    return max(part.operations / rate, moved)


def _ceilings(result: Mapping[str, Any]) -> str:
    head = ["rows x subwords", "FP32 product", "numpy's", "INT8 product", "INT8 / FP32", "copy, GB/s"]
    rows = []
    for name, one in result["shapes"].items():
        fp32, int8 = one["ceilings"]["fp32"], one["ceilings"]["int8"]
        numpy = ceilings.ceiling({**one["limits"]}, "numpy_fp32")
        copied = one["limits"]["copy_bytes_per_s"] / 1e9
        cells = [f"{fp32 / 1e9:.0f}", f"{numpy / 1e9:.0f}", f"{int8 / 1e9:.0f}", f"{int8 / fp32:.1f}", f"{copied:.1f}"]
        rows.append([name.replace("x", " x "), *cells])
    return "Ceilings, billion operations a second:\n\n" + table(head, rows)


def _reached(result: Mapping[str, Any]) -> str:
    head = [
        "rows x subwords",
        "operations, 10⁹",
        "published / needed",
        *(f"{name} reaches" for name in PUBLISHED + OURS),
    ]
    rows = []
    for name, one in result["shapes"].items():
        needed = sum(part[0] for part in one["parts"].values())
        cells = [f"{needed / 1e9:.2f}", f"{one['published_operations'] / needed:.2f}"]
        rows.append([name.replace("x", " x "), *cells, *(f"{one['reached'][kind]:.0%}" for kind in PUBLISHED + OURS)])
    return "Fraction of the least possible time, for the answers that are needed:\n\n" + table(head, rows)


def _parts(one: Mapping[str, Any]) -> str:
    head = [
        "part",
        "operations, 10⁹",
        "MB, FP32",
        "MB, INT8",
        "operations a byte, INT8",
        "least ms, FP32",
        "least ms, INT8",
    ]
    rows = []
    for name, (operations, full, small) in one["parts"].items():
        cells = [f"{operations / 1e9:.3f}", f"{full / 1e6:.1f}", f"{small / 1e6:.1f}", f"{operations / small:.1f}"]
        rows.append([name, *cells, *(f"{one['least_ms'][kind][name]:.2f}" for kind in ("fp32", "int8"))])
    least = [f"{sum(one['least_ms'][kind].values()):.2f}" for kind in ("fp32", "int8")]
    rows.append(["all", "", "", "", "", *least])
    taken = [f"{one['taken_ms'][name]:.2f}" for name in OURS]
    return table(head, [*rows, ["ours takes", "", "", "", "", *taken]])


def _profile(result: Mapping[str, Any]) -> str:
    cells = []
    for name in OURS:
        shown = list(result["profile"][name].items())[:_SHOWN]
        rest = 1 - sum(share for _, share in shown)
        cells.append([*(f"{operator} {share:.1%}" for operator, share in shown), f"all others {rest:.1%}"])
    rows = [[left, right] for left, right in zip(*(one + [""] * (_SHOWN + 1 - len(one)) for one in cells), strict=True)]
    return table(list(OURS), rows)
