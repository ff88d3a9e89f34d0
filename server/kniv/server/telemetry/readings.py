"""What is read when metrics are collected, from whatever thread collects them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kniv.server.models.catalogue import Catalogue
from kniv.server.scheduling.engine import Engine
from kniv.server.telemetry import instruments as known
from kniv.server.telemetry.calls import CallMeter
from kniv.server.telemetry.export import Exports
from kniv.server.telemetry.lanes import Labels, LaneMeter

Points = Iterable[tuple[float, Labels]]

_STATM = Path("/proc/self/statm")


def readings(
    engine: Engine, catalogue: Catalogue, calls: CallMeter, lanes: Mapping[str, LaneMeter], exports: Exports
) -> Callable[[known.Metric], Points]:
    """What reads one metric. Copies of the dictionaries are read, as the event loop may change them meanwhile."""

    def waiting() -> Iterator[tuple[float, Labels]]:
        rows: dict[tuple[str, int], int] = {}
        for lane in engine.lanes:
            for level, count in lane.waiting().items():
                rows[lane.name, level] = rows.get((lane.name, level), 0) + count
        for (name, level), count in rows.items():
            if name in lanes:
                yield count, lanes[name].at(level)

    def states() -> Iterator[tuple[float, Labels]]:
        for model, versions in list(catalogue.models.items()):
            for number, entry in list(versions.items()):
                yield 1, {known.MODEL: model, known.VERSION: str(number), known.STATE: str(entry.state)}

    def cpu() -> Iterator[tuple[float, Labels]]:
        used = os.times()
        yield used.user, {"cpu.mode": "user"}
        yield used.system, {"cpu.mode": "system"}

    special: dict[known.Metric, Callable[[], Points]] = {
        known.STARTED: lambda: _by_method(calls.started),
        known.ACTIVE: lambda: _by_method(calls.active),
        known.CALLS_REFUSED: lambda: [
            (count, {"grpc.method": method, known.REASON: reason})
            for (method, reason), count in list(calls.refused.items())
        ],
        known.QUEUE: waiting,
        known.HELD_ROWS: lambda: [(engine.items, {})],
        known.HELD_BYTES: lambda: [(engine.bytes, {})],
        known.RUNNING: lambda: [(engine.running, {})],
        known.STATES: states,
        known.MEMORY: _memory,
        known.CPU: cpu,
        known.EXPORTS: exports.counts,
    }

    def read(metric: known.Metric) -> Points:
        if metric in special:
            return special[metric]()
        return [
            (value, labels) for lane in list(lanes.values()) for told, value, labels in lane.points() if told is metric
        ]

    return read


def _by_method(counts: Mapping[str, int]) -> Points:
    return [(count, {"grpc.method": method}) for method, count in list(counts.items())]


def _memory() -> Points:
    """Nothing where the system has no /proc."""
    if not _STATM.is_file():
        return []
    return [(int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE"), {})]
