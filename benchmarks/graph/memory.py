"""Peak memory of loading a graph and running one large batch, each in a process of its own.

python -m benchmarks.graph.memory GRAPH ours|published VOCABULARY
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.graph.contenders import ALL, cores, flags, our_session, published_session
from benchmarks.graph.files import Graphs, feed
from benchmarks.graph.plan import MEMORY_SHAPE
from kniv.server.graphs.contract import TASKS_INPUT


def measure(graphs: Graphs, precisions: Sequence[str]) -> dict[str, float]:
    """MiB of each graph, over what the process holds once its imports are done; and ours over the published."""
    found: dict[str, float] = {}
    for precision in precisions:
        for side in ("published", "ours"):
            path = graphs.paths[f"{side} {precision}"]
            command = [sys.executable, "-m", __name__, str(path), side, str(graphs.vocabulary)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[f"{side} {precision}"] = float(told)
        found[f"{precision.lower()}_ratio"] = found[f"ours {precision}"] / found[f"published {precision}"]
    return found


def _main() -> None:
    path, kind, vocabulary = sys.argv[1:]
    before = _kib("VmRSS")
    given = feed(*MEMORY_SHAPE, int(vocabulary))
    if kind == "ours":
        our_session(Path(path), cores()).run(None, given | {TASKS_INPUT: flags(ALL)})
    else:
        published_session(Path(path), cores()).run(None, given)
    print((_kib("VmHWM") - before) / 1024)


def _kib(what: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what + ":"))


if __name__ == "__main__":
    _main()
