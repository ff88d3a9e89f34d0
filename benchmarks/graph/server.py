"""Sentences a second through the server, over the quick start of the published model's card.

The server is given the published files, their INT8 file remade of the FP32 one unless the published is asked for; what
it makes of them when it loads them is part of what is measured. It is kept full of documents. In the same round the
quick start annotates the same sentences on the published INT8 file and on the FP32 file: one sentence a call, every
head, a full pass more for each predicate, ONNX Runtime as it comes. In its favour, sentences are cut, words split and
rows encoded before its time begins, and it is told the predicates.

``one_pass`` asks the server for parts of speech, entities and trees: one row of the encoder a sentence. Triton cannot
run here. Elsewhere its dynamic batcher did 40 sentences a second on the published INT8 graph where the quick start
does 51 (16 callers, each sentence its own length), so the ratio to it is estimated from the quick start's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.graph.contenders import cores, published_session
from benchmarks.graph.plan import Plan
from benchmarks.graph.served import Served
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.bulk import Bulk
from benchmarks.server.figures import Found, quiet, spread
from benchmarks.server.process import watched
from benchmarks.server.rows import ACT, Row, Sentence, feed, rows_of
from benchmarks.server.texts import documents
from benchmarks.server.throughput import STREAMS, fill

TRITON_OVER_QUICK_START = 40 / 51
ONE_PASS = ("TASK_POS", "TASK_NER", "TASK_DEP")

_DOCUMENTS, _LONGEST = 600, 1000
_LEAD = 240  # sentences that come before those that count: more than are in flight


def measure(bench: Bench, plan: Plan, given: Served) -> dict[str, Any]:
    """Rounds of all five tasks and of one pass a sentence."""
    seeds = {name: published_session(path, cores()) for name, path in given.published.items()}
    texts = tuple((text,) for text in documents(bench.data, _DOCUMENTS, _LONGEST, SEED))
    lead = min(_LEAD, 4 * plan.server_sentences)
    encoder = given.model.encoder()
    rounds = []
    with bench.server(given.model) as server:
        marks = (lead, lead + plan.server_sentences)
        full = Bulk(server.target, texts, streams=STREAMS, outstanding=1, keep=True)
        bulk = replace(full, watched=server.process.pid, marks=marks)
        fill(bench, server, replace(bulk, marks=(1, lead)))  # warms it
        for number in range(plan.server_rounds):
            begin = number * len(texts) // plan.server_rounds
            found: Found = {}
            turned = replace(bulk, dialogues=texts[begin:] + texts[:begin])
            with watched(found):
                sentences, all_tasks = fill(bench, server, turned)
                _, one_pass = fill(bench, server, replace(turned, tasks=ONE_PASS))
            rows = [row for sentence in sentences for row in rows_of(sentence, encoder) if row.outputs != ACT]
            first = [row for row in rows if row.predicate == 0]
            found |= all_tasks | {"one_pass_server": one_pass["server"]}
            for name, session in seeds.items():
                with watched(found):
                    found[name] = len(sentences) / _seconds(session, rows)
            with watched(found):
                found["one_pass_published_int8"] = len(sentences) / _seconds(seeds["published INT8"], first)
            rounds.append(found | _told(sentences, rows))
    return summary(rounds)


def summary(rounds: Sequence[Found]) -> dict[str, Any]:
    """The ratios, of those rounds in which others left the machine alone."""

    def over(above: str, below: str, scale: float = 1.0) -> dict[str, float]:
        return spread([one[above] / (one[below] * scale) for one in quiet(rounds)])

    return {
        "over_int8": over("server", "published INT8"),
        "over_fp32": over("server", "published FP32"),
        "one_pass_over_int8": over("one_pass_server", "one_pass_published_int8"),
        "one_pass_over_triton_estimated": over("one_pass_server", "one_pass_published_int8", TRITON_OVER_QUICK_START),
        "rounds_that_count": len(quiet(rounds)),
        "rounds": list(rounds),
    }


def _seconds(session: Any, rows: Sequence[Row]) -> float:
    ready = [feed([row]) for row in rows]
    begun = time.perf_counter()
    for one in ready:
        session.run(None, one)
    return time.perf_counter() - begun


def _told(sentences: Sequence[Sentence], rows: Sequence[Row]) -> dict[str, float]:
    return {
        "passes_per_sentence": len(rows) / len(sentences),
        "subwords_per_row": sum(len(row.ids) for row in rows) / len(rows),
    }
