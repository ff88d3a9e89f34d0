"""What one caller's turns feel of 32 bulk streams that keep the server full, and what these feel of it.

In every round, on one server: turns alone; bulk alone; both, the turns at the most urgent level; and both at one
level, to show that it is the priority that helps.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.server import models, texts
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.bulk import Bulk, load
from benchmarks.server.figures import Found, percentile, quiet, spread
from benchmarks.server.interactive import Chat, talk
from benchmarks.server.process import Server, watched

_LONGEST = 1000
_DOCUMENTS = 200
_MARGIN_S = 0.5  # by which bulk outlasts the turns
_URGENT, _PATIENT = 1, 2
_NAMES = {"idle": "turns alone", "urgent": "beside bulk, level 1", "equal": "beside bulk, its level"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: rounds, seconds of each phase, and those before it in which bulk fills the queues."""

    rounds: int = 12
    seconds: float = 5.0
    fill_s: float = 1.0


_QUICK = Plan(rounds=1, seconds=1.2, fill_s=0.5)


def measure(bench: Bench, bound_ms: float, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Rounds on a server with that wait bound; the turns ask for ``tasks``, none for all."""
    plan = _QUICK if bench.quick else Plan()
    documents = tuple((text,) for text in texts.documents(bench.data, _DOCUMENTS, _LONGEST, SEED))
    turns = tuple(turn for dialogue in texts.dialogues(bench.data, 200, SEED) for turn in dialogue)
    with bench.server(models.mini(), "--wait-bound-ms", str(bound_ms)) as server:
        bulk = Bulk(server.target, documents, streams=32, outstanding=1, priority=_PATIENT)
        chat = Chat(server.target, turns, plan.seconds, think_s=0.05, tasks=tasks, priority=_URGENT)
        bench.run(load, replace(bulk, seconds=plan.seconds))
        rounds = [_round(bench, plan, server, bulk, replace(chat, seed=number)) for number in range(plan.rounds)]
    return _result(rounds, quiet(rounds), bound_ms)


def _round(bench: Bench, plan: Plan, server: Server, bulk: Bulk, chat: Chat) -> Found:
    found: Found = {}
    with watched(found):
        found |= {"idle": bench.run(talk, chat)} | _beside_bulk(bench, plan, server, bulk, chat)
    return found


def _beside_bulk(bench: Bench, plan: Plan, server: Server, bulk: Bulk, chat: Chat) -> Found:
    """Bulk alone, and with turns at either level."""
    found: Found = {}
    for name, turns in {"alone": None, "urgent": chat, "equal": replace(chat, priority=_PATIENT)}.items():
        server.settle()
        filling = bench.start(load, replace(bulk, seconds=plan.fill_s + plan.seconds + _MARGIN_S))
        time.sleep(plan.fill_s)
        begin = time.monotonic()
        if turns is not None:
            found[name] = bench.run(talk, turns)
        found[f"bulk_{name}"] = filling.result().between(begin, begin + plan.seconds) / plan.seconds
    server.settle()
    return found


def _result(rounds: Sequence[Found], counted: Sequence[Found], bound_ms: float) -> Found:
    latencies = {name: [took * 1000 for one in counted for took in one[name]] for name in _NAMES}
    at = {
        name: {f"p{percent}_ms": percentile(taken, percent) for percent in (50, 90, 99)}
        for name, taken in latencies.items()
    }
    added = {name: {key: at[name][key] - at["idle"][key] for key in at[name]} for name in ("urgent", "equal")}
    return {
        "wait_bound_ms": bound_ms,
        "turns": at,
        "added": added,
        "bulk_kept": {
            name: spread([one[f"bulk_{name}"] / one["bulk_alone"] for one in counted]) for name in ("urgent", "equal")
        },
        "rounds_that_count": len(counted),
        "rounds": [
            {key: value if isinstance(value, float) else [took * 1000 for took in value] for key, value in one.items()}
            for one in rounds
        ],
    }


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The figures of the last line."""
    added = result["added"]["urgent"]
    return {
        "p50_added_ms": added["p50_ms"],
        "p99_added_ms": added["p99_ms"],
        "wait_bound_ms": result["wait_bound_ms"],
        "bulk_kept": result["bulk_kept"]["urgent"]["median"],
    }


def draw(result: dict[str, Any], figure: Any) -> None:
    """How many turns were answered within how many milliseconds."""
    axes = figure.subplots()
    for name, label in _NAMES.items():
        axes.ecdf([took for one in result["rounds"] for took in one[name]], label=label)
    idle, bound = result["turns"]["idle"], result["wait_bound_ms"]
    for share, limit in ((0.5, idle["p50_ms"] + bound), (0.99, idle["p99_ms"] + 1.5 * bound)):
        axes.plot(limit, share, "v", color="black", label="bounds on level 1" if share == 0.5 else None)
    axes.set_xscale("log")
    axes.set_xlabel("ms from a turn to the end of its answer")
    axes.set_ylabel("share of turns")
    axes.legend()
