"""An hour at a part of the capacity, the model reloaded time and again: do memory and latency stay where they are?

The capacity is measured first, by callers who call again when answered. Then calls come at that part of it whether or
not earlier ones are answered, and beside them one caller chats at the most urgent level. Time is cut into periods, each
with a chat on a stream of its own, and a reload in the middle: in its first half one load of the model is held, in its
second half two, as the chat's stream keeps the one that it began with. So memory has two levels, and each must stay
where it is. What other programs of the machine do shows in latency: the quarter of the periods in which they did most
does not count for it.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite, nan
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.server import models, texts
from benchmarks.server.arrivals import Arrivals, Call, arrive
from benchmarks.server.bench import SEED, Bench
from benchmarks.server.figures import percentile, slope
from benchmarks.server.interactive import Chat, talk
from benchmarks.server.process import Server, watched

_WARM = 3  # the first third is warm-up; samples are still taken then
_POINTS = 450  # of the curves
_LEAST_PERIODS = 9
_CAPACITY_S, _CAPACITY_ROUNDS = 5.0, 3
_THINK_S = 0.25
_DEADLINE_S = 5.0
_GLANCE_S = 0.05
_CALM = 75  # per cent of the periods whose latency counts
_AT_RELOAD_S = 5.0  # from a reload's beginning
_EXPECTED = ("OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")  # of calls to a busy server; all else is an error
_OPEN = ("descriptors", "threads")
_ERRORS = 2  # standard errors to either side
# Growth from the end of the warm-up to the end, by the trend, that still counts as flat.
_FLAT = {
    "least_mib": 0.02,
    "most_mib": 0.02,
    **dict.fromkeys(_OPEN, 0.05),
    "p50_ms": 0.10,
    "p99_ms": 0.20,
}


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much of its median a curve rises, and how sure that is.

    Attributes:
        rise: by the trend.
        error: the standard error of a least-squares line's rise over the same points, as if these were independent of
            each other. Where the noise is normal that of the trend is greater by 2 %, where it has spikes it is less.
    """

    rise: float
    error: float

    @property
    def interval(self) -> list[float]:
        """Where the rise is, with some 95 % of certainty if there are 30 points or more."""
        return [self.rise - _ERRORS * self.error, self.rise + _ERRORS * self.error]


@dataclass(slots=True)
class _Curves:
    """What was seen, and when.

    Attributes:
        begun: on the machine's monotonic clock; the other times are seconds since then.
        times_s: of ``resident_mib``, ``held_mib``, ``descriptors`` and ``threads``, which are the process's then.
        resident_mib: with the pages of files that are in memory: libraries, and graphs that are mapped.
        held_mib: without them. They come and go as the system likes, so only the rest can tell whether memory grows.
        periods_s: ends of the periods that ``least_mib``, ``most_mib``, ``others_cores``, ``p50_ms`` and ``p99_ms`` are
            of: levels of the memory held, by many more looks, what other programs used meanwhile, the chat's latency.
        reloads_s: beginnings of the reloads.
        failures: what chats and reloads met.
    """

    begun: float = field(default_factory=time.monotonic)
    times_s: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)
    held_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    periods_s: list[float] = field(default_factory=list)
    least_mib: list[float] = field(default_factory=list)
    most_mib: list[float] = field(default_factory=list)
    others_cores: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    reloads_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _looks_mib: list[float] = field(default_factory=list)  # of the period under way

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def look(self, server: Server) -> float:
        """MiB that are the server's own; kept for the levels of the period."""
        self._looks_mib.append(server.anonymous() / 2**20)
        return self._looks_mib[-1]

    def sample(self, server: Server) -> None:
        """Look at the server's process, for the curves."""
        self.times_s.append(self.now())
        self.resident_mib.append(server.resident() / 2**20)
        self.held_mib.append(self.look(server))
        self.descriptors.append(server.process.num_fds())
        self.threads.append(server.process.num_threads())

    def period(self, others_cores: float, latencies_s: list[float]) -> None:
        """A period has ended."""
        self.periods_s.append(self.now())
        self.least_mib.append(min(self._looks_mib))
        self.most_mib.append(max(self._looks_mib))
        self._looks_mib.clear()
        self.others_cores.append(others_cores)
        self.p50_ms.append(1000 * percentile(latencies_s, 50))
        self.p99_ms.append(1000 * percentile(latencies_s, 99))

    def growth(self, name: str) -> Growth:
        """By how much a curve rises after the warm-up."""
        times = self.times_s if name in _OPEN else self.periods_s
        return grown(times, getattr(self, name), self.others_cores if name.endswith("_ms") else None)


def grown(times: Sequence[float], values: Sequence[float], others: Sequence[float] | None = None) -> Growth:
    """By how much of its median a curve rises after the warm-up, by its trend; NaN if there is nothing to tell it by.

    Args:
        times: in order.
        values: of these times; NaN where there is none.
        others: what other programs used then, for a curve that shows it: the busiest quarter is left out.
    """
    warm = len(times) // _WARM
    busy = inf if others is None else percentile(others[warm:], _CALM)
    cores = [0.0] * len(times) if others is None else others
    points = [one for one in list(zip(times, values, cores, strict=True))[warm:] if one[2] <= busy and isfinite(one[1])]
    if len(points) < 2:
        return Growth(nan, nan)
    then, what = [time for time, _, _ in points], [value for _, value, _ in points]
    scale = (times[-1] - times[warm]) / percentile(what, 50)
    return Growth(slope(then, what) * scale, _slope_error(then, what) * scale)


def _slope_error(times: Sequence[float], values: Sequence[float]) -> float:
    """The standard error of the least-squares line's slope; NaN for fewer than three points.

    It is s / sqrt(sum((t - mean(t))**2)), with s**2 the sum of the squared residuals over n - 2.
    """
    if len(times) < 3:
        return nan
    return float(np.sqrt(np.polyfit(times, values, 1, cov=True)[1][0, 0]))


def measure(bench: Bench, seconds: float, load: float, reload_s: float) -> dict[str, Any]:
    """The curves, their growth after the warm-up, and the verdict.

    Args:
        bench: where things are.
        seconds: how long.
        load: part of the capacity.
        reload_s: time between two reloads; less where that would be too few to tell a trend.
    """
    turns = tuple(turn for dialogue in texts.dialogues(bench.data, 400, SEED) for turn in dialogue)
    model = _copied(bench)
    with bench.server(model, "--model-control-mode", "explicit", "--load-model", model.name) as server:
        closed = Arrivals(server.target, turns, min(_CAPACITY_S, seconds / 12), _DEADLINE_S, priority=2)
        bench.run(arrive, closed)  # a warm-up
        capacity = _capacity(bench, closed)
        rate = max(1.0, load * capacity - 1 / _THINK_S)
        server.settle()
        arriving = bench.start(arrive, replace(closed, seconds=seconds, rate=rate))
        curves = _watch(bench, server, model, Chat(server.target, turns, seconds, _THINK_S), reload_s)
        calls = arriving.result().calls
        server.settle()
        after = server.anonymous() / 2**20
        capacity_after = _capacity(bench, closed)
    codes = Counter(call.code for call in calls)
    growth = {name: curves.growth(name) for name in _FLAT}
    return {
        "seconds": seconds,
        "load": load,
        "capacity_per_s": capacity,
        "capacity_after_per_s": capacity_after,
        "calls": dict(sorted(codes.items())),
        "calls_at_reloads": dict(sorted(Counter(call.code for call in calls if _at_reload(call, curves)).items())),
        "failures": curves.failures,
        "errors": len(curves.failures) + sum(count for code, count in codes.items() if code not in _EXPECTED),
        "reloads": len(curves.reloads_s),
        "after_mib": after,
        "growth": {name: one.rise for name, one in growth.items()},
        "growth_error": {name: one.error for name, one in growth.items()},
        "growth_interval": {name: one.interval for name, one in growth.items()},
        "flat": {name: growth[name].rise <= bound for name, bound in _FLAT.items()},
        **{name: getattr(curves, name) for name in ("times_s", "resident_mib", "held_mib")},
        **{name: getattr(curves, name) for name in ("periods_s", "reloads_s", "others_cores")},
        **{name: getattr(curves, name) for name in _FLAT},
    }


def _capacity(bench: Bench, closed: Arrivals) -> float:
    """Calls a second that are answered; the median of some rounds, as other programs may slow one."""
    rounds = [bench.run(arrive, closed) for _ in range(_CAPACITY_ROUNDS)]
    return percentile([sum(call.code == "OK" for call in one.calls) / closed.seconds for one in rounds], 50)


def _copied(bench: Bench) -> models.Model:
    """The embedded model, where its files may be touched."""
    source = models.mini()
    model = models.Model(bench.work / "soak", source.name)
    shutil.rmtree(model.repository, ignore_errors=True)
    shutil.copytree(source.repository / source.name, model.repository / model.name)
    return model


def _watch(bench: Bench, server: Server, model: models.Model, chat: Chat, reload_s: float) -> _Curves:
    """Chat period after period, take samples meanwhile, and reload in the middle of each."""
    curves = _Curves()
    between = chat.seconds / _POINTS
    periods = max(_LEAST_PERIODS, round(chat.seconds / reload_s))
    length = chat.seconds / periods
    for number in range(periods):
        begun, reloaded, found = curves.now(), False, dict[str, Any]()
        with watched(found):
            talking = bench.start(_talk, replace(chat, seed=number, seconds=length))
            # A chat that fails makes its period no shorter, and costs no reload.
            while not (reloaded and talking.done() and curves.now() >= begun + length):
                if not reloaded and curves.now() >= begun + length / 2:
                    reloaded = True
                    curves.reloads_s.append(curves.now())
                    curves.failures += _reload(server, model)
                if not curves.times_s or curves.now() >= curves.times_s[-1] + between:
                    curves.sample(server)
                else:
                    curves.look(server)
                time.sleep(min(_GLANCE_S, between))
        latencies, failures = talking.result()
        curves.failures += failures
        curves.period(found["others_cores"], latencies)
    return curves


def _talk(chat: Chat) -> tuple[list[float], list[str]]:
    """Seconds from each turn to the end of its answer, and what ended the chat early: an hour goes on all the same."""
    try:
        return talk(chat), []
    except Exception as error:
        return [], [f"chat: {error}"]


def _reload(server: Server, model: models.Model) -> list[str]:
    """Have the model loaded anew, as if its files had been replaced; what went wrong."""
    (model.folder / "metadata.json").touch()
    with grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=model.name))
        except grpc.RpcError as error:
            return [f"reload: {error}"]
    return []


def _at_reload(call: Call, curves: _Curves) -> bool:
    due = call.due - curves.begun
    return any(begun - call.took_s <= due < begun + _AT_RELOAD_S for begun in curves.reloads_s)


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What grew by how much and how sure that is, whether all stayed flat, and how often something failed."""
    grown = {f"{kind}_{name}": value for kind in ("growth", "growth_error") for name, value in result[kind].items()}
    return grown | {"reloads": result["reloads"], "errors": result["errors"], "flat": all(result["flat"].values())}


def draw(result: dict[str, Any], figure: Any) -> None:
    """Memory, latency, and what is open, over time."""
    memory, latency, counts = figure.subplots(1, 3)
    minutes = [moment / 60 for moment in result["times_s"]]
    periods = [moment / 60 for moment in result["periods_s"]]
    memory.plot(minutes, result["resident_mib"], color="0.6", linewidth=0.5, label="with pages of files")
    memory.plot(minutes, result["held_mib"], color="0.8")
    for name in ("least_mib", "most_mib"):
        memory.plot(periods, result[name], label=name.removesuffix("_mib"))
    memory.set_title("memory between two reloads, MiB", fontsize=9)
    for name in ("p50_ms", "p99_ms"):
        latency.plot(periods, result[name], label=name.removesuffix("_ms"))
    latency.set_title("interactive turn, ms", fontsize=9)
    for name in _OPEN:
        counts.plot(minutes, result[name], label=name)
    counts.set_title("open", fontsize=9)
    for axes in (memory, latency, counts):
        axes.axvline(result["seconds"] / _WARM / 60, linestyle=":", color="0.6")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
        axes.legend()
