"""Calls that come faster than they can be served: how many are answered in time, how soon the others are refused.

Each load is offered right after the capacity was measured that it is a part of, as on a shared machine the capacity of
a minute ago is another.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.server import models, texts
from benchmarks.server.arrivals import Arrivals, Arrived, arrive
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.figures import Found, percentile, quiet, spread
from benchmarks.server.process import Server, watched

Loads = dict[float, list[Found]]

_REFUSED = "RESOURCE_EXHAUSTED"
_BEYOND = 1.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        capacity_s, seconds: of each measurement of the capacity, and of each load.
        loads: calls a second, as parts of the capacity.
    """

    rounds: int = 5
    capacity_s: float = 2.5
    seconds: float = 5.0
    loads: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.0, 1.15, 1.3, 1.5, 1.7)


_QUICK = Plan(rounds=1, capacity_s=1.2, seconds=2.0, loads=(1.0, 1.5))


def measure(bench: Bench, deadline_s: float) -> dict[str, Any]:
    """Rounds over all loads, each round in an order of its own."""
    plan = _QUICK if bench.quick else Plan()
    turns = tuple(turn for dialogue in texts.dialogues(bench.data, 200, SEED) for turn in dialogue)
    found: Loads = {part: [] for part in plan.loads}
    with bench.server(models.mini()) as server:
        closed = Arrivals(server.target, turns, plan.capacity_s, deadline_s)
        bench.run(arrive, closed)
        for number in range(plan.rounds):
            for part in random.Random(number).sample(plan.loads, len(plan.loads)):
                found[part].append(_once(bench, plan, server, replace(closed, seed=number), part))
    return {"deadline_s": deadline_s, "beyond": _beyond(found), "loads": {f"{part:.0%}": found[part] for part in found}}


def _once(bench: Bench, plan: Plan, server: Server, closed: Arrivals, part: float) -> Found:
    """The capacity, then that part of it offered."""
    found: Found = {}
    with watched(found):
        server.settle()
        capacity = _goodput(bench.run(arrive, closed), closed, plan.capacity_s / 4)
        server.settle()
        offered = replace(closed, rate=part * capacity, seconds=plan.seconds)
        found |= {"capacity": capacity} | _told(bench.run(arrive, offered), offered)
    return found


def _told(arrived: Arrived, arrivals: Arrivals) -> Found:
    """What became of the calls of one load."""
    codes = [call.code for call in arrived.calls]
    answered = [call.took_s * 1000 for call in arrived.calls if call.code == "OK"]
    refused = [call.took_s * 1000 for call in arrived.calls if call.code == _REFUSED]
    return {
        "offered": len(codes) / arrivals.seconds,
        # Only once the queues are as full as they get.
        "goodput": _goodput(arrived, arrivals, arrivals.deadline_s),
        "answered_p50_ms": percentile(answered, 50),
        "answered_p99_ms": percentile(answered, 99),
        "refused_p50_ms": percentile(refused, 50),
        "refused_p99_ms": percentile(refused, 99),
        "sent_late_p99_ms": percentile([call.late_s * 1000 for call in arrived.calls], 99),
        "client_cores": arrived.cpu_s / arrivals.seconds,
        "codes": {code: codes.count(code) for code in sorted(set(codes))},
    }


def _goodput(arrived: Arrived, arrivals: Arrivals, skip_s: float) -> float:
    """Answers a second that came in time, after the first ``skip_s`` and before the last call was sent."""
    begin, end = arrived.begun + skip_s, arrived.begun + arrivals.seconds
    in_time = [call for call in arrived.calls if call.code == "OK" and call.took_s <= arrivals.deadline_s]
    return sum(begin <= call.due + call.took_s < end for call in in_time) / (end - begin)


def _beyond(loads: Loads) -> Found:
    """The load that is nearest to 150 % of the peak, in parts of it, and how soon it refuses."""
    curve = {part: spread([one["goodput"] / one["capacity"] for one in quiet(found)]) for part, found in loads.items()}
    peak = max(found["median"] for found in curve.values())
    part = min(curve, key=lambda part: abs(part / peak - _BEYOND))
    refused = [one["refused_p99_ms"] for one in quiet(loads[part])]
    return {
        "offered_over_peak": part / peak,
        "goodput_over_peak": {name: value / peak for name, value in curve[part].items()},
        "refused_p99_ms": spread(refused),
        "rounds_that_count": len(refused),
    }


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The figure of the last line."""
    return {"goodput_150": result["beyond"]["goodput_over_peak"]["median"]}


def draw(result: dict[str, Any], figure: Any) -> None:
    """Goodput, and latency, against offered load."""
    left, right = figure.subplots(1, 2)
    for name, rounds in result["loads"].items():
        part = float(name.rstrip("%"))
        left.plot([part] * len(rounds), [100 * one["goodput"] / one["capacity"] for one in rounds], ".", color="C0")
        for key, color in _LATENCIES.items():
            right.plot([part] * len(rounds), [one[key] for one in rounds], ".", color=color)
    left.plot([0, 100, 150], [0, 100, 100], ":", color="0.6")
    left.set_ylabel("answered in time, % of capacity")
    left.set_ylim(bottom=0)
    right.set_ylabel("ms")
    right.set_yscale("log")
    for key, color in _LATENCIES.items():
        right.plot([], [], ".", color=color, label=key.removesuffix("_ms").replace("_", ", "))
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("calls offered, % of capacity")


_LATENCIES = {"answered_p50_ms": "C0", "answered_p99_ms": "C1", "refused_p99_ms": "C3"}
