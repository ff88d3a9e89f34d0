"""Start of a server: from the process's first moment to its first answer, and what that time is made of.

The graphs that are kept from earlier starts are used, as in a restart. The parts are timed in a process of their own
that does one after the other; the server does some of them at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.server import models, wire
from benchmarks.server.bench import Bench
from benchmarks.server.figures import Found, quiet, spread
from benchmarks.server.process import watched
from kniv.v1 import annotation_service_pb2 as calls

_STARTS, _FEW = 15, 2
_BAR_S = 3.0
_TEXT = "We walked along the river and saw three old boats."


def measure(bench: Bench) -> dict[str, Any]:
    """Starts and what they are made of, in turns."""
    _start(bench)  # files are in memory and graphs are kept from here on
    rounds: list[Found] = []
    for _ in range(_FEW if bench.quick else _STARTS):
        found: Found = {}
        with watched(found):
            found |= _start(bench)
        rounds.append(found | {"parts_s": _parts()})
    calm = quiet(rounds)
    parts = calm[0]["parts_s"]
    answer = spread([one["answer_s"] for one in calm])
    return {
        "rounds_counted": len(calm),
        "ready_s": spread([one["ready_s"] for one in calm]),
        "answer_s": answer,
        "parts_s": {name: spread([one["parts_s"][name] for one in calm]) for name in parts},
        "bar_s": _BAR_S,
        "within_bar": answer["median"] <= _BAR_S,
        "rounds": rounds,
    }


def _start(bench: Bench) -> Found:
    """Seconds until a server says that it is ready, and until it has answered for the first time."""
    begun = time.monotonic()
    with bench.server(models.mini()) as server:
        ready = time.monotonic() - begun
        wire.run(_annotate(server.target))
        return {"ready_s": ready, "answer_s": time.monotonic() - begun}


async def _annotate(target: str) -> None:
    request = calls.AnnotateTextRequest(inputs=[calls.TextInput(text=_TEXT)], options=wire.options(wire.ALL, 0))
    async with wire.connect(target) as channel:
        answer = await wire.stub(channel).AnnotateText(request, wait_for_ready=True)
    if answer.results[0].HasField("error"):
        raise SystemExit(f"the first answer is an error: {answer.results[0].error.message}")


def _parts() -> dict[str, float]:
    """Seconds of each part, the interpreter's own start among them."""
    model = models.mini()
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", ""], check=True)
    interpreter = time.monotonic() - begun
    command = [sys.executable, "-m", "benchmarks.server.startup_parts", str(model.repository), model.name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    parts: dict[str, float] = json.loads(done.stdout)
    return {"interpreter": interpreter} | parts


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The median and the verdict."""
    return {"startup_s": result["answer_s"]["median"], "startup_within_bar": result["within_bar"]}


def draw(result: dict[str, Any], figure: Any) -> None:
    """The parts, one after the other, beside a whole start."""
    axes = figure.subplots()
    left = 0.0
    for name, seconds in result["parts_s"].items():
        axes.barh(["parts"], [seconds["median"]], left=left, label=name)
        left += seconds["median"]
    axes.barh(["start to first answer"], [result["answer_s"]["median"]], color="0.6")
    axes.axvline(result["bar_s"], linestyle=":", color="0.6")
    axes.set_xlabel("seconds")
    axes.legend(fontsize=7)
