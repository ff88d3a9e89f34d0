"""An hour at a part of the capacity, the model reloaded time and again: do memory and latency stay where they are?

The capacity is measured first, by callers who call again when answered. Then calls come at that part of it whether or
not earlier ones are answered, and beside them one caller chats at the most urgent level, on a new stream each minute.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.server import models, texts
from benchmarks.server.arrivals import Arrivals, arrive
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.figures import percentile, slope
from benchmarks.server.interactive import Chat, talk
from benchmarks.server.process import Server

_WARM = 3  # the first third is warm-up; samples are still taken then
_POINTS = 450  # of the curves
_WINDOW_S, _LEAST_WINDOWS = 60.0, 9  # of the chat
_CAPACITY_S = 10.0
_THINK_S = 0.5
_DEADLINE_S = 5.0
_GLANCE_S = 0.05
# Growth from the end of the warm-up to the end, by the trend, that still counts as flat.
_FLAT = {"held_mib": 0.02, "descriptors": 0.05, "threads": 0.05, "p50_ms": 0.10, "p99_ms": 0.20}


@dataclass(slots=True)
class _Curves:
    """What was seen, and when: of the process at any moment, of the chat once a window."""

    begun: float = field(default_factory=time.monotonic)
    times_s: list[float] = field(default_factory=list)
    held_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    windows_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    reloads_s: list[float] = field(default_factory=list)

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def sample(self, server: Server) -> None:
        """Look at the server's process."""
        self.times_s.append(self.now())
        self.held_mib.append(server.rss() / 2**20)
        self.descriptors.append(server.process.num_fds())
        self.threads.append(server.process.num_threads())

    def growth(self, name: str) -> float:
        """By how much of its median a curve rises after the warm-up, by its trend."""
        times = self.windows_s if name.endswith("_ms") else self.times_s
        values: list[float] = getattr(self, name)
        warm = len(times) // _WARM
        trend = slope(times[warm:], values[warm:])
        return trend * (times[-1] - times[warm]) / percentile(values[warm:], 50)


def measure(bench: Bench, seconds: float, load: float, reload_s: float) -> dict[str, Any]:
    """The curves, their growth after the warm-up, and the verdict.

    Args:
        bench: where things are.
        seconds: how long.
        load: part of the capacity.
        reload_s: time between two reloads.
    """
    turns = tuple(turn for dialogue in texts.dialogues(bench.data, 400, SEED) for turn in dialogue)
    model = _copied(bench)
    with bench.server(model, "--model-control-mode", "explicit", "--load-model", model.name) as server:
        closed = Arrivals(server.target, turns, min(_CAPACITY_S, seconds / 4), _DEADLINE_S, priority=2)
        bench.run(arrive, closed)
        answered = [call for call in bench.run(arrive, closed).calls if call.code == "OK"]
        capacity = len(answered) / closed.seconds
        rate = max(1.0, load * capacity - 1 / _THINK_S)
        server.settle()
        arriving = bench.start(arrive, replace(closed, seconds=seconds, rate=rate))
        curves = _watch(bench, server, model, Chat(server.target, turns, seconds, _THINK_S), reload_s)
        codes = [call.code for call in arriving.result().calls]
        server.settle()
        after = server.rss() / 2**20
    growth = {name: curves.growth(name) for name in _FLAT}
    return {
        "seconds": seconds,
        "load": load,
        "capacity_per_s": capacity,
        "calls": {code: codes.count(code) for code in sorted(set(codes))},
        "reloads": len(curves.reloads_s),
        "after_mib": after,
        "growth": growth,
        "flat": {name: growth[name] <= bound for name, bound in _FLAT.items()},
        **{name: getattr(curves, name) for name in ("times_s", "windows_s", "reloads_s", *_FLAT)},
    }


def _copied(bench: Bench) -> models.Model:
    """The embedded model, where its files may be touched."""
    source = models.mini()
    model = models.Model(bench.work / "soak", source.name)
    shutil.rmtree(model.repository, ignore_errors=True)
    shutil.copytree(source.repository / source.name, model.repository / model.name)
    return model


def _watch(bench: Bench, server: Server, model: models.Model, chat: Chat, reload_s: float) -> _Curves:
    """Chat window after window, take samples and reload meanwhile."""
    curves = _Curves()
    between = chat.seconds / _POINTS
    windows = max(_LEAST_WINDOWS, round(chat.seconds / _WINDOW_S))
    for number in range(windows):
        window = bench.start(talk, replace(chat, seed=number, seconds=chat.seconds / windows))
        while not window.done():
            if curves.now() >= (len(curves.reloads_s) + 1) * reload_s:
                curves.reloads_s.append(curves.now())
                _reload(server, model)
            if not curves.times_s or curves.now() >= curves.times_s[-1] + between:
                curves.sample(server)
            time.sleep(min(_GLANCE_S, between))
        latencies = [1000 * took for took in window.result()]
        if latencies:
            curves.windows_s.append(curves.now())
            curves.p50_ms.append(percentile(latencies, 50))
            curves.p99_ms.append(percentile(latencies, 99))
    return curves


def _reload(server: Server, model: models.Model) -> None:
    """Have the model loaded anew, as if its files had been replaced."""
    (model.folder / "metadata.json").touch()
    with grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=model.name))


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What grew by how much, and whether all stayed flat."""
    grown = {f"growth_{name}": value for name, value in result["growth"].items()}
    return grown | {"reloads": result["reloads"], "flat": all(result["flat"].values())}


def draw(result: dict[str, Any], figure: Any) -> None:
    """Memory, latency, and what is open, over time."""
    memory, latency, counts = figure.subplots(1, 3)
    minutes = [moment / 60 for moment in result["times_s"]]
    memory.plot(minutes, result["held_mib"])
    memory.set_title("resident memory, MiB", fontsize=9)
    windows = [moment / 60 for moment in result["windows_s"]]
    for name in ("p50_ms", "p99_ms"):
        latency.plot(windows, result[name], label=name.removesuffix("_ms"))
    latency.set_title("interactive turn, ms", fontsize=9)
    for name in ("descriptors", "threads"):
        counts.plot(minutes, result[name], label=name)
    counts.set_title("open", fontsize=9)
    for axes in (memory, latency, counts):
        axes.axvline(result["seconds"] / _WARM / 60, linestyle=":", color="0.6")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
    latency.legend()
    counts.legend()
