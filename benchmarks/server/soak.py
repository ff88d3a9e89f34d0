"""Memory of a server under a mixed load, for as long as one likes: does it come to rest?

Whole documents, dialogues over streams of their own, a chat at the most urgent level, and single calls of which some
have deadlines that cannot be kept, all at once.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from benchmarks.server import models, texts, wire
from benchmarks.server.arrivals import Arrivals, arrive
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.bulk import Bulk, load
from benchmarks.server.figures import percentile, slope
from benchmarks.server.interactive import Chat, talk
from benchmarks.server.process import Server

_WARM = 3  # the first third is warm-up; memory is still taken then
_POINTS = 450  # of the curve
_GROWTH = 0.02  # of the memory held, from the end of the warm-up to the end, that still counts as rest
_LONGEST = 20_000  # characters of a document


def measure(bench: Bench, seconds: float) -> dict[str, Any]:
    """The curve, its trend after the warm-up, and the verdict."""
    with bench.server(models.mini()) as server:
        running = _loads(bench, server, seconds)
        times, held = _curve(server, seconds, running)
        bulk, dialogues, answered, arrived = (one.result() for one in running)
        server.settle()
        rest = server.anonymous() / 2**20
    codes = [call.code for call in arrived.calls]
    warm = len(times) // _WARM
    trend, level = slope(times[warm:], held[warm:]), percentile(held[warm:], 50)
    growth = trend * (times[-1] - times[warm]) / level
    return {
        "seconds": seconds,
        "level_mib": level,
        "trend_mib_per_hour": trend * 3600,
        "growth": growth,
        "plateau": growth <= _GROWTH,
        "after_mib": rest,
        "served": {
            "document_sentences": len(bulk.done),
            "dialogue_sentences": len(dialogues.done),
            "chat_turns": len(answered),
            "calls": {code: codes.count(code) for code in sorted(set(codes))},
        },
        "times_s": times,
        "held_mib": held,
    }


def _curve(server: Server, seconds: float, running: list[Future[Any]]) -> tuple[list[float], list[float]]:
    """Seconds, and MiB held then; ends when a load has failed, as with less of it memory says nothing."""
    times: list[float] = []
    held: list[float] = []
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < seconds and not any(one.done() and one.exception() for one in running):
        times.append(now)
        held.append(server.anonymous() / 2**20)
        time.sleep(seconds / _POINTS)
    return times, held


def _loads(bench: Bench, server: Server, seconds: float) -> list[Future[Any]]:
    documents = tuple((text,) for text in texts.documents(bench.data, 400, _LONGEST, SEED))
    dialogues = tuple(texts.dialogues(bench.data, 400, SEED))
    turns = tuple(turn for dialogue in dialogues for turn in dialogue)
    bulk = Bulk(server.target, documents, streams=6, outstanding=2, priority=2, seconds=seconds)
    calls = Arrivals(server.target, turns, seconds, deadline_s=0.2, rate=20, priority=2)
    return [
        bench.start(load, bulk),
        bench.start(load, replace(bulk, dialogues=dialogues, as_turns=True, streams=2, tasks=wire.DIALOG_ACT)),
        bench.start(talk, Chat(server.target, turns, seconds, think_s=0.2)),
        bench.start(arrive, calls),
    ]


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The trend and the verdict."""
    return {name: result[name] for name in ("level_mib", "trend_mib_per_hour", "plateau")}


def draw(result: dict[str, Any], figure: Any) -> None:
    """The curve."""
    axes = figure.subplots()
    axes.plot([moment / 60 for moment in result["times_s"]], result["held_mib"])
    axes.axvline(result["seconds"] / _WARM / 60, linestyle=":", color="0.6")
    axes.set_ylim(0, 1.1 * max(result["held_mib"]))
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory, MiB")
    axes.set_title(f"{result['trend_mib_per_hour']:+.1f} MiB an hour after the dotted line", fontsize=9)
