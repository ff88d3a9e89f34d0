"""Benchmarks of the running server.

    python -m benchmarks.server                  throughput, isolation and overload, some 25 minutes
    python -m benchmarks.server --quick          the same in under a minute: figures without worth
    python -m benchmarks.server soak             memory over 15 minutes, or --seconds
    python -m benchmarks.server soak_hour --seconds 3600 --load 0.8 --reload-seconds 60
    python -m benchmarks.server startup          from a start to the first answer, 15 times
    python -m benchmarks.server telemetry        what full telemetry costs, some 5 minutes
    python -m benchmarks.server isolation --serve=--batch-rows=4

Each writes a JSON file with the machine's facts and all rounds, and a picture. The last line printed is one JSON object
with the figures that count. All of them are ratios or differences of runs that take turns, as times of a shared machine
mean nothing by themselves.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.server import figures, isolation, overload, plot, soak, soak_hour, startup, telemetry, throughput, wire
from benchmarks.server.bench import Bench, bench

_ROOT = Path(__file__).resolve().parents[2]
_RESULTS = _ROOT / "benchmarks" / "results"
_USUAL = ("throughput", "isolation", "overload")
_MODULES = {
    "throughput": throughput,
    "isolation": isolation,
    "overload": overload,
    "soak": soak,
    "soak_hour": soak_hour,
    "startup": startup,
    "telemetry": telemetry,
}
_NAMED = ", ".join(_MODULES)


def main() -> None:
    """Run what is asked for."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # or servers would be left behind
    measure: dict[str, Callable[[Bench], dict[str, Any]]] = {
        "throughput": throughput.measure,
        "isolation": lambda bench: isolation.measure(bench, options.wait_bound_ms, _tasks(options.turns)),
        "overload": lambda bench: overload.measure(bench, options.deadline_ms / 1000),
        "soak": lambda bench: soak.measure(bench, options.seconds),
        "soak_hour": lambda bench: soak_hour.measure(bench, options.seconds, options.load, options.reload_seconds),
        "telemetry": telemetry.measure,
        "startup": startup.measure,
    }
    output = options.output or (_RESULTS / "quick" if options.quick else _RESULTS)
    line: dict[str, Any] = {}
    with bench(options.data, options.work, options.quick, tuple(options.serve)) as shared:
        for name in options.benchmarks:
            begun = time.monotonic()
            result = measure[name](shared)
            figures.write(output / f"{name}.json", result)
            plot.picture(output / f"{name}.svg", _MODULES[name].draw, result)
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
            line |= _MODULES[name].summary(result)
    print(json.dumps({key: value if isinstance(value, bool) else round(value, 3) for key, value in line.items()}))


def _tasks(turns: str) -> tuple[str, ...]:
    return wire.DIALOG_ACT if turns == "dialog-act" else wire.ALL


def _known(name: str) -> str:
    if name not in _MODULES:
        raise argparse.ArgumentTypeError(f"no benchmark {name}; there are: {_NAMED}")
    return name


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmarks", nargs="*", type=_known, default=_USUAL, metavar="BENCHMARK", help=_NAMED)
    parser.add_argument("--data", type=Path, default=_ROOT.parent / "shared" / "data", help="folder of the corpora")
    parser.add_argument("--work", type=Path, default=_ROOT / "runs" / "benchmarks", help="folder of the made graph")
    parser.add_argument("--output", type=Path, help="folder of the results; benchmarks/results by default")
    parser.add_argument("--quick", action="store_true", help="short rounds, into results/quick")
    parser.add_argument("--serve", action="append", default=[], metavar="FLAG", help="a setting of every server")
    parser.add_argument("--wait-bound-ms", type=float, default=20.0, help="wait bound of the isolation's server")
    parser.add_argument("--turns", choices=("all", "dialog-act"), default="all", help="tasks of isolation's turns")
    parser.add_argument("--deadline-ms", type=float, default=1000.0, help="deadline of the overload's calls")
    parser.add_argument("--seconds", type=float, default=900.0, help="time of a soak")
    parser.add_argument("--load", type=float, default=0.8, help="part of the capacity that soak_hour offers")
    parser.add_argument("--reload-seconds", type=float, default=60.0, help="time between soak_hour's reloads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
