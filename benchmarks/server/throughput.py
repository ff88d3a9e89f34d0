"""Sentences a second at saturation: through the server, over bare runs of the same rows and over the seed's way.

In every round the contenders take turns on the same sentences: those that the server, kept full of documents or
dialogues all the time, answers between two moments. It segments, encodes, decodes and moves messages. Bare runs know
all rows beforehand, sorted by length, at the size of batches and split of cores that was quickest: a sweep leaves
three of them, and that counts which the server comes least near to.

The load generator runs on the same cores, and what it costs counts against the server; ``without_client`` is what the
ratio would be on a machine that has its processor seconds free for the server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.server import models, texts, wire
from benchmarks.server.bare import Bare
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.bulk import Bulk, load
from benchmarks.server.figures import Found, quiet, spread
from benchmarks.server.models import Model
from benchmarks.server.process import Server, watched
from benchmarks.server.quickstart import QuickStart
from benchmarks.server.rows import Row, Sentence, rows_of, sentence_of
from benchmarks.server.texts import Dialogue
from kniv.server.pipeline.encode import Encoder

_FINALISTS = 3
STREAMS = 24  # of documents; with 6 the server does a sixth less, with 32 no more
_DOCUMENTS, _DIALOGUES = 600, 200
_LONGEST = 1000  # characters of a document: the sentences in flight are to be of many documents


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        small, mini, acts: sentences of a round: with either model, and where only dialog acts are asked for.
        lead: sentences that come before those whose time counts: more than are in flight.
        sizes: rows of a batch that the sweep tries.
        every: the sweep takes each so-manieth row.
        repeats: passes of the sweep.
    """

    rounds: int = 9
    small: int = 100
    mini: int = 240
    acts: int = 150
    lead: int = 240
    sizes: tuple[int, ...] = (2, 4, 6, 8, 12)
    every: int = 4
    repeats: int = 2


_QUICK = Plan(rounds=1, small=24, mini=60, acts=40, lead=80, sizes=(4,), every=2, repeats=1)


def measure(bench: Bench) -> dict[str, Any]:
    """Rounds of all three workloads."""
    plan = _QUICK if bench.quick else Plan()
    chosen = texts.documents(bench.data, _DOCUMENTS, _LONGEST, SEED)
    documents = Bulk("", tuple((text,) for text in chosen), streams=STREAMS, outstanding=1, keep=True)
    dialogues = tuple(texts.dialogues(bench.data, _DIALOGUES, SEED))
    acts = Bulk("", dialogues, as_turns=True, streams=8, tasks=wire.DIALOG_ACT, keep=True)
    small, mini = models.small(bench.work, bench.data), models.mini()
    found = {}
    with bench.server(small) as server:
        rivals = _Rivals.of(small)
        found["small_documents"] = _workload(bench, plan, server, rivals, documents, plan.small)
        found["small_dialog_acts"] = _workload(bench, plan, server, rivals, acts, plan.acts)
    with bench.server(mini) as server:
        found["mini_documents"] = _workload(bench, plan, server, _Rivals.of(mini), documents, plan.mini)
    return found


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The ratios of the last line."""
    return {
        "efficiency_small": result["small_documents"]["over_bare"]["median"],
        "efficiency_mini": result["mini_documents"]["over_bare"]["median"],
        "vs_seed_all": result["small_documents"]["over_seed"]["median"],
        "vs_seed_dialog_act": result["small_dialog_acts"]["over_seed"]["median"],
    }


def draw(result: dict[str, Any], figure: Any) -> None:
    """Each workload's sentences a second of the three contenders, a dot a round."""
    axes = figure.subplots(1, len(result))
    for place, (name, found) in zip(axes, result.items(), strict=True):
        contenders = ("seed", found["bare_best"], "server")
        for x, contender in enumerate(contenders):
            rates = [one[contender] for one in found["rounds"]]
            place.bar(x, spread(rates)["median"], color="C0" if contender == "server" else "0.75")
            place.plot([x] * len(rates), rates, ".", color="0.25")
        place.set_xticks(range(3), ("quick\nstart", "bare\nruns", "server"))
        over = ", ".join(f"{found[key]['median']:.2f} × {of}" for key, of in _OVER.items())
        place.set_title(f"{name.replace('_', ', ').replace('dialog, acts', 'dialog acts')}\n{over}", fontsize=9)
    axes[0].set_ylabel("sentences/s")


_OVER = {"over_bare": "bare", "over_seed": "quick start"}


@dataclass(frozen=True, slots=True)
class _Rivals:
    """What runs a model's graph without a server."""

    encoder: Encoder
    bare: Bare
    seed: QuickStart

    @classmethod
    def of(cls, model: Model) -> _Rivals:
        return cls(model.encoder(), Bare(model.graph), QuickStart(model))

    def rows(self, sentences: Sequence[Sentence]) -> list[Row]:
        return [row for sentence in sentences for row in rows_of(sentence, self.encoder)]


def _workload(bench: Bench, plan: Plan, server: Server, rivals: _Rivals, load_of: Bulk, count: int) -> dict[str, Any]:
    """Rounds of one workload, of which each begins at a text of its own."""
    bulk = replace(load_of, target=server.target, watched=server.process.pid, marks=(plan.lead, plan.lead + count))
    sentences, _ = fill(bench, server, bulk)  # warms it, too
    sample = sorted(rivals.rows(sentences), key=lambda row: len(row.ids))[:: plan.every]
    sweep = rivals.bare.sweep(sample, plan.sizes, plan.repeats)
    finalists = list(sweep)[:_FINALISTS]
    rounds, workloads = [], []
    for number in range(plan.rounds):
        begin = number * len(bulk.dialogues) // plan.rounds
        found: Found = {}
        with watched(found):
            sentences, served = fill(bench, server, replace(bulk, dialogues=_from(bulk.dialogues, begin)))
        rows = rivals.rows(sentences)
        for split in finalists:
            with watched(found):
                found |= _timed(str(split), count, partial(rivals.bare.seconds, rows, split))
        with watched(found):
            found |= _timed("seed", count, partial(rivals.seed.seconds, sentences))
        rounds.append(found | served)
        workloads.append(_told(sentences, rows))

    def ratio(above: str, below: str) -> dict[str, float]:
        return spread([one[above] / one[below] for one in quiet(rounds)])

    best = min(map(str, finalists), key=lambda name: ratio("server", name)["median"])
    return {
        "over_bare": ratio("server", best),
        "over_bare_without_client": ratio("server_without_client", best),
        "over_bare_in_cpu_time": ratio(f"{best}_cpu_ms", "server_cpu_ms"),
        "over_seed": ratio("server", "seed"),
        "workload": {name: spread([one[name] for one in workloads]) for name in workloads[0]},
        "rounds_that_count": len(quiet(rounds)),
        "rounds": rounds,
        "bare_best": best,
        "bare_sweep": {str(split): seconds for split, seconds in sweep.items()},
    }


def fill(bench: Bench, server: Server, bulk: Bulk) -> tuple[list[Sentence], dict[str, float]]:
    """The sentences whose time counts; how many the server does a second, and as if its client cost nothing."""
    trace = bench.run(load, bulk)
    server.settle()
    begin, end = trace.marks
    count, seconds = bulk.marks[1] - bulk.marks[0], end.moment - begin.moment
    client = end.client_cpu_s - begin.client_cpu_s
    context = [turn for dialogue in bulk.dialogues for turn in (None, *dialogue[:-1])]
    sentences = [
        sentence_of(annotation, context[place] if bulk.as_turns else None)
        for place, annotation in trace.answers[slice(*bulk.marks)]
    ]
    return sentences, {
        "server": count / seconds,
        "server_without_client": count / (seconds - client / len(os.sched_getaffinity(0))),
        "server_cpu_ms": (end.server_cpu_s - begin.server_cpu_s) / count * 1000,
        "client_cpu_ms": client / count * 1000,
    }


def _from(dialogues: tuple[Dialogue, ...], begin: int) -> tuple[Dialogue, ...]:
    return dialogues[begin:] + dialogues[:begin]


def _timed(name: str, count: int, run: Callable[[], float]) -> dict[str, float]:
    """Sentences a second of one of the others."""
    before = time.process_time()
    rate = count / run()
    return {name: rate, f"{name}_cpu_ms": (time.process_time() - before) / count * 1000}


def _told(sentences: Sequence[Sentence], rows: Sequence[Row]) -> dict[str, float]:
    return {
        "rows_per_sentence": len(rows) / len(sentences),
        "predicates_per_sentence": sum(len(sentence.predicates) for sentence in sentences) / len(sentences),
        "subwords_per_row": sum(len(row.ids) for row in rows) / len(rows),
    }
