"""Peak memory of loading a graph and running one large batch, each in a process of its own.

Ours is loaded as a server keeps it and opens it: beside its version, with its weights in a file that is mapped.

python -m benchmarks.graph.memory GRAPH ours|published VOCABULARY
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.graph.contenders import ALL, cores, flags, published_session
from benchmarks.graph.files import Graphs, feed
from benchmarks.graph.plan import MEMORY_SHAPE
from kniv.server.graphs.contract import TASKS_INPUT
from kniv.server.runtime.prepare import prepared
from kniv.server.runtime.providers import CPU, SessionSettings, open_session


def measure(graphs: Graphs, precisions: Sequence[str]) -> dict[str, float]:
    """MiB of each graph, over what the process holds once its imports are done; and ours over the published."""
    found: dict[str, float] = {}
    for precision in precisions:
        published, ours = (graphs.paths[f"{side} {precision}"] for side in ("published", "ours"))
        found[f"published {precision}"] = _peak(published, "published", graphs.vocabulary)
        with TemporaryDirectory(dir=ours.parent) as folder:
            graph = Path(folder) / ours.name
            graph.hardlink_to(ours)
            found[f"ours {precision}"] = _peak(_kept(graph), "ours", graphs.vocabulary)
        found[f"{precision.lower()}_ratio"] = found[f"ours {precision}"] / found[f"published {precision}"]
    return found


def _kept(graph: Path) -> Path:
    kept = prepared(graph)
    assert isinstance(kept, Path)
    return kept


def _peak(path: Path, kind: str, vocabulary: int) -> float:
    command = [sys.executable, "-m", __name__, str(path), kind, str(vocabulary)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _main() -> None:
    path, kind, vocabulary = sys.argv[1:]
    before = _kib("VmRSS")
    given = feed(*MEMORY_SHAPE, int(vocabulary))
    if kind == "ours":
        session = open_session(Path(path), Path(path), CPU, SessionSettings(threads=cores()))
        session.run(None, given | {TASKS_INPUT: flags(ALL)})
    else:
        published_session(Path(path), cores()).run(None, given)
    print((_kib("VmHWM") - before) / 1024)


def _kib(what: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what + ":"))


if __name__ == "__main__":
    _main()
