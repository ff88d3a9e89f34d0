"""Execution providers: which device a session runs on, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from kniv.server.errors import RepositoryError
from kniv.server.runtime import arena

DeviceKind = Literal["cpu", "cuda"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# On CPU the fused residual and norm takes several times as long as the two operators that it replaces.
_SLOWER = {"cpu": ["SkipLayerNormFusion"], "cuda": []}


@dataclass(frozen=True, slots=True)
class Device:
    """One processor that sessions run on.

    Attributes:
        kind: the processor's kind.
        index: the GPU's number; 0 on CPU.
    """

    kind: DeviceKind
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


CPU = Device("cpu")


class DeviceError(RepositoryError):
    """A graph is to run on a device that is not there."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How a session is set up.

    Attributes:
        threads: threads inside one run. One is best on CPU when runs go side by side.
        graph_level: ONNX Runtime's optimization level: disable, basic, extended, all.
        arena: whether CPU memory is kept for later runs: in the arena of all sessions that run on the CPU alone.
        memory_pattern: whether allocations are planned ahead for shapes seen before.
        cuda: options of the CUDA execution provider, as ONNX Runtime names them.
    """

    threads: int = 1
    graph_level: Literal["disable", "basic", "extended", "all"] = "all"
    arena: bool = True
    memory_pattern: bool = False
    cuda: Mapping[str, str] = field(default_factory=dict)


DEFAULTS = SessionSettings()

_LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def open_session(path: Path, graph: bytes | Path, device: Device, settings: SessionSettings) -> ort.InferenceSession:
    """Load a graph on a device.

    Args:
        path: where it lies, for messages.
        graph: itself, serialised, or where it lies.
        device: where to run it.
        settings: how to run it.

    Raises:
        RepositoryError: the graph cannot be loaded.
        DeviceError: the device is not there.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    # What fails is raised, a GPU that is not there is told below, and a run that was told to stop is no failure.
    options.log_severity_level = 4
    options.graph_optimization_level = _LEVELS[settings.graph_level]
    options.enable_cpu_mem_arena = settings.arena
    if settings.arena and device.kind == "cpu":  # a GPU's weights are to stay in its own arena, under its limit
        arena.share(options)
    options.enable_mem_pattern = settings.memory_pattern
    # Spinning threads of one run would take the cores that its neighbours need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [_CPU]
    if device.kind == "cuda":
        providers.insert(0, (_CUDA, {**settings.cuda, "device_id": str(device.index)}))
    try:
        session = ort.InferenceSession(graph, options, providers=providers, disabled_optimizers=_SLOWER[device.kind])
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        raise RepositoryError(path, f"not a graph that ONNX Runtime can load: {first_line(error)}") from error
    if device.kind == "cuda" and _CUDA not in session.get_providers():
        # ONNX Runtime would quietly go on with what it has.
        raise DeviceError(path, f"cannot run on {device}: ONNX Runtime found no {_CUDA} here")
    return session


def first_line(error: Exception) -> str:
    """The gist of an error that ONNX Runtime raised."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
