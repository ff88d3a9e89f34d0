"""Who runs on the GPU: the published graph, ours and PyTorch, in three precisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from benchmarks.gpu.device import Device
from benchmarks.gpu.jobs import Job, SkippedError, onnx_job, torch_job
from benchmarks.graph import files
from benchmarks.graph.contenders import ALL, flags
from benchmarks.graph.files import Feed, Graphs
from kniv.server.graphs.contract import TASKS_INPUT

PRECISIONS = ("FP32", "FP16", "INT8")


@dataclass(frozen=True, slots=True)
class Contender:
    """One column.

    Attributes:
        name: of who runs.
        precision: one of :data:`PRECISIONS`.
        job: makes a run in a way of :data:`benchmarks.gpu.jobs.MODES` of given inputs; raises
            :class:`benchmarks.gpu.jobs.SkippedError` if that cannot be.
    """

    name: str
    precision: str
    job: Callable[[str, Feed], Job]


def contenders(graphs: Graphs, device: Device) -> Iterator[Contender]:
    """All columns; those that cannot be say so when they are to run."""
    for side in ("published", "ours"):
        for precision in PRECISIONS:
            yield Contender(side, precision, partial(_onnx, graphs, device, f"{side} {precision}"))
    model = cache(partial(_model, graphs, device))
    for precision in PRECISIONS:
        yield Contender("PyTorch", precision, partial(_torch, model, device, precision))


def _onnx(graphs: Graphs, device: Device, variant: str, mode: str, given: Feed) -> Job:
    if variant == "published FP16":
        raise SkippedError("the family publishes no FP16 graph")
    asked = given | {TASKS_INPUT: flags(ALL)} if variant.startswith("ours") else given
    path = files.half(graphs) if variant == "ours FP16" else graphs.paths[variant]
    return onnx_job(str(path), device, mode, asked)


def _torch(model: Callable[[str], Any], device: Device, precision: str, mode: str, given: Feed) -> Job:
    if precision == "INT8":
        raise SkippedError("PyTorch's dynamic INT8 runs on CPUs alone")
    return torch_job(model(precision), device, mode, given)


def _model(graphs: Graphs, device: Device, precision: str) -> Any:
    import torch

    if device.kind == "cuda" and not torch.cuda.is_available():
        raise SkippedError("this PyTorch was built without CUDA")
    # The cascade as it is trained: its published tracing makes tensors on the CPU.
    model = files.model(graphs.size, graphs.vocabulary).cascade.eval().to(device.kind)
    return model.half() if precision == "FP16" else model
