"""Benchmarks of the graphs: as published, against ours, against PyTorch; alone and through the server.

    python -m benchmarks.graph                   everything, some 12 minutes; the docs' tables with it
    python -m benchmarks.graph --quick           a taste in under a minute: figures without worth
    python -m benchmarks.graph --only roofline   a part (bare, memory, passes, server, roofline); others are kept
    python -m benchmarks.graph --docs            nothing but the docs' tables, of what was found before

Weights are random: times do not depend on their values, but for INT8 of trained weights, of which some products have
their channels evened out, in part by a pass more over an activation (benchmarks.int8 measures such). Machines without
VNNI have results and tables of their own. Ratios are medians over rounds in which the contenders take
turns. The last line printed is one JSON object with the figures that count: ours over the published at the small size
on all cores (above 1 is quicker), but ``memory_ratio``, which is ours over the published INT8's (below 1 is less).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.graph import draw, files, memory, passes, roofline, rounds, served, server, tables
from benchmarks.graph.plan import FULL, QUICK, Plan
from benchmarks.server import figures, plot
from benchmarks.server.bench import bench

_ROOT = Path(__file__).resolve().parents[2]
_PAGES = _ROOT / "docs"
_PARTS = ("bare", "memory", "passes", "server", "roofline")
_KIND = figures.kind()
_GRAPH, _ROOFLINE = f"graph{_KIND}.json", f"roofline{_KIND}.json"


def main() -> None:
    """Run what is asked for."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # or servers would be left behind
    output = options.output or (_ROOT / "benchmarks" / "results" / ("quick" if options.quick else ""))
    if not options.docs:
        _measure(options, output)
    result = json.loads((output / _GRAPH).read_text(encoding="utf-8"))
    if not options.quick:
        tables.write(_PAGES / "performance.md", tables.block(result, _KIND), *tables.MARKS[_KIND])
        if not _KIND:  # the page is about machines with VNNI
            roof = json.loads((output / _ROOFLINE).read_text(encoding="utf-8"))
            tables.write(_PAGES / "roofline.md", roofline.block(roof), roofline.BEGIN, roofline.END)
    print(json.dumps(line(result)))


def line(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures that count, of a result as it is kept."""
    mean = rounds.means(next(iter(result["sizes"]["small"].values())))
    through = result["server"]

    def ratio(name: str) -> float | None:
        return None if through is None else through[name]["median"]

    found = {
        "int8_gmean": mean["int8"],
        "int8_worst": mean["int8_worst"],
        "fp32_gmean": mean["fp32"],
        "dialog_act_gmean": mean["int8_dialog_act"],
        "memory_ratio": result["memory"]["int8_ratio"],
        "server_vs_seed_int8": ratio("over_int8"),
        "server_vs_seed_fp32": ratio("over_fp32"),
        "server_vs_triton_estimated": ratio("one_pass_over_triton_estimated"),
    }
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def _measure(options: argparse.Namespace, output: Path) -> None:
    plan = QUICK if options.quick else FULL
    result: dict[str, Any] = {"sizes": {}, "memory": {}, "passes": {}, "server": None}
    if options.only:
        if not (output / _GRAPH).is_file():
            sys.exit(f"{output / _GRAPH} is missing: --only renews a part of what a whole run has found before")
        before = json.loads((output / _GRAPH).read_text(encoding="utf-8"))
        result |= {key: before[key] for key in result.keys() & before.keys()}
    result["plan"] = asdict(plan) | {"quick": options.quick}
    made = {size: _graphs(options.work, size, plan) for size in plan.sizes}
    asked = options.only or _PARTS
    for part in asked:
        begun = time.monotonic()
        match part:
            case "bare":
                result["sizes"] = rounds.measure(plan, made)
            case "memory":
                result["memory"] = memory.measure(made["small"], plan.memory)
            case "passes":
                result["passes"] = {} if options.quick else passes.measure(made["small"], plan)
            case "server":
                result["server"] = _server(options, plan, made["small"])
            case "roofline":
                figures.write(output / _ROOFLINE, roofline.measure(made["small"], plan))
        print(f"{part}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    figures.write(output / _GRAPH, result)
    plot.picture(output / f"graph{_KIND}.svg", draw.draw, result)


def _graphs(work: Path, size: str, plan: Plan) -> files.Graphs:
    return files.graphs(work, size, plan.vocabulary if size == "small" else None)


def _server(options: argparse.Namespace, plan: Plan, graphs: files.Graphs) -> dict[str, Any] | None:
    if not (options.data / "documents.jsonl.gz").is_file():
        print(f"no server rows: {options.data} has no documents.jsonl.gz; name its folder with --data", file=sys.stderr)
        return None
    given = served.repository(graphs, options.work / "repositories", options.data, options.remake_int8)
    with bench(options.data, options.work, options.quick, tuple(options.serve)) as shared:
        return server.measure(shared, plan, given) | {"remade_int8": options.remake_int8}


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.graph", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few short rounds, into results/quick")
    parser.add_argument("--only", action="append", choices=_PARTS, help="a part; may be given several times")
    parser.add_argument("--docs", action="store_true", help="measure nothing; write the tables into docs/")
    parser.add_argument("--data", type=Path, default=_ROOT.parent / "shared" / "data", help="folder of the corpora")
    parser.add_argument("--work", type=Path, default=_ROOT / "runs" / "benchmarks" / "graph", help="folder of graphs")
    parser.add_argument("--output", type=Path, help="folder of the results; benchmarks/results by default")
    remake = "serve INT8 as kniv-serve optimise --int8 makes it of the FP32 file, not the published INT8 file"
    parser.add_argument("--remake-int8", action=argparse.BooleanOptionalAction, default=True, help=remake)
    parser.add_argument("--serve", action="append", default=[], metavar="FLAG", help="a setting of the server")
    return parser.parse_args()


if __name__ == "__main__":
    main()
