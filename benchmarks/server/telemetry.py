"""What full telemetry costs: a server with all of it on, against one with none.

On: every call traced and sent to a collector, a process of its own; metrics sent, and read as Prometheus does, each
second; logs as JSON. In every round the two take turns on the same sentences, kept full of documents all the time; who
goes first changes from round to round. Collector and load generator run on the same cores, and what they cost counts
against the server.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.request import urlopen

from benchmarks.server import models, texts
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.bulk import Bulk, load
from benchmarks.server.figures import Found, quiet, spread
from benchmarks.server.process import Server, watched

_DOCUMENTS, _LONGEST = 600, 1000
_EVERY_S = 1.0
BAR = 0.03


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: rounds, sentences of each whose time counts, and those before them."""

    rounds: int = 16
    count: int = 2000
    lead: int = 200


_QUICK = Plan(rounds=2, count=100, lead=30)


def measure(bench: Bench) -> dict[str, Any]:
    """Rounds of both servers."""
    plan, model = _QUICK if bench.quick else Plan(), models.mini()
    documents = tuple((text,) for text in texts.documents(bench.data, _DOCUMENTS, _LONGEST, SEED))
    bulk = Bulk("", documents, streams=8, outstanding=1, marks=(plan.lead, plan.lead + plan.count))
    port = _free_port()
    rounds: list[Found] = []
    with _collector() as endpoint:
        on = ("--otlp-endpoint", endpoint, "--metrics-port", str(port))
        with bench.server(model) as bare, bench.server(model, *on, "--log-format", "json") as full:
            for server in (bare, full):
                _served(bench, server, bulk)  # warms it
            for number in range(plan.rounds):
                begin = number * len(documents) // plan.rounds
                mine = replace(bulk, dialogues=documents[begin:] + documents[:begin])
                found: Found = {}
                with watched(found):
                    for name in ("on", "off") if number % 2 else ("off", "on"):
                        if name == "off":
                            found |= _named(name, _served(bench, bare, mine))
                            continue
                        with _read_each_second(f"http://127.0.0.1:{port}/metrics") as pages:
                            found |= _named(name, _served(bench, full, mine))
                        found["pages"] = len(pages)
                rounds.append(found)
    counted = quiet(rounds)
    ratio = spread([one["on"] / one["off"] for one in counted])
    return {
        "throughput_kept": ratio,
        "cpu_time_added": spread([one["on_cpu_ms"] / one["off_cpu_ms"] - 1 for one in counted]),
        "bar": BAR,
        "within_bar": 1 - ratio["median"] <= BAR,
        "rounds_that_count": len(counted),
        "rounds": rounds,
    }


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The figures of the last line."""
    return {
        "telemetry_throughput_kept": result["throughput_kept"]["median"],
        "telemetry_cpu_time_added": result["cpu_time_added"]["median"],
        "telemetry_within_bar": result["within_bar"],
    }


def draw(result: dict[str, Any], figure: Any) -> None:
    """Each round's ratio, the median, and the bar."""
    axes = figure.subplots()
    ratios = [one["on"] / one["off"] for one in result["rounds"]]
    axes.plot(range(1, len(ratios) + 1), ratios, ".", color="0.25")
    axes.axhline(result["throughput_kept"]["median"], color="C0", label="median")
    axes.axhline(1 - result["bar"], color="C3", linestyle="--", label="bar")
    axes.set_xlabel("round")
    axes.set_ylabel("sentences/s, telemetry on over off")
    axes.legend()


def _served(bench: Bench, server: Server, bulk: Bulk) -> dict[str, float]:
    """Sentences a second, and the server's processor time for one."""
    trace = bench.run(load, replace(bulk, target=server.target, watched=server.process.pid))
    server.settle()
    begin, end = trace.marks
    count = bulk.marks[1] - bulk.marks[0]
    return {
        "": count / (end.moment - begin.moment),
        "_cpu_ms": (end.server_cpu_s - begin.server_cpu_s) / count * 1000,
    }


def _named(name: str, found: dict[str, float]) -> dict[str, float]:
    return {name + key: value for key, value in found.items()}


@contextmanager
def _collector() -> Iterator[str]:
    """Endpoint of a collector that throws away what it gets."""
    command = [sys.executable, "-m", "benchmarks.server.telemetry_sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def _read_each_second(page: str) -> Iterator[list[int]]:
    """Read the metrics as Prometheus does; sizes of the pages read."""
    over, sizes = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            with urlopen(page, timeout=10) as answer:
                sizes.append(len(answer.read()))
            over.wait(_EVERY_S)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield sizes
    finally:
        over.set()
        reader.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
