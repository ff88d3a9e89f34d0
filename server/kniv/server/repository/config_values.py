"""A model's configuration in the server's own terms: what ``config.pbtxt`` says, checked and with its defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tritonclient.grpc import model_config_pb2

from kniv.server.errors import RepositoryError
from kniv.server.repository.config_text import Source
from kniv.server.repository.layout import GRAPHS, OWN_GRAPH, VersionFiles

Device = Literal["cpu", "cuda"]
GraphLevel = Literal["disable", "basic", "extended", "all"]

# What a device serves where nobody says: the variant that is fastest there, then full precision.
_USUAL: Mapping[Device, tuple[str, ...]] = {"cpu": ("int8", "fp32"), "cuda": ("fp16", "fp32")}


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """What happens to requests of one priority level while they wait.

    Attributes:
        timeout: seconds in the queue after which ``on_timeout`` is done; 0 for no limit.
        on_timeout: refuse the request, or serve it after all that are within their time.
        allow_timeout_override: whether a request may name a shorter timeout.
        max_queue_size: requests that may wait; 0 for no bound.
    """

    timeout: float = 0.0
    on_timeout: Literal["reject", "delay"] = "reject"
    allow_timeout_override: bool = False
    max_queue_size: int = 0


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests wait and are put together.

    Attributes:
        max_queue_delay: seconds that a request may be held back for others to join it.
        levels: number of priority levels; 1 is the most urgent.
        default_level: level of requests that name none.
        policies: the policy of each level from 1 to ``levels``.
    """

    max_queue_delay: float
    levels: int
    default_level: int
    policies: Mapping[int, QueuePolicy]


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which versions of a model are served.

    Attributes:
        kind: the newest few, all, or those named.
        newest: how many, for ``latest``.
        named: which, for ``specific``.
        source: where it was written.
    """

    source: Source = field(compare=False, repr=False)
    kind: Literal["latest", "all", "specific"] = "latest"
    newest: int = 1
    named: tuple[int, ...] = ()

    def choose(self, available: Sequence[int]) -> list[int]:
        """The versions to serve of those on disk, newest first.

        Raises:
            RepositoryError: a version that is named is not on disk.
        """
        ordered = sorted(set(available), reverse=True)
        if self.kind == "latest":
            return ordered[: self.newest]
        if self.kind == "all":
            return ordered
        if missing := sorted(set(self.named) - set(ordered)):
            problem = f"names version {', '.join(map(str, missing))}, of which there is no folder"
            raise self.source.error("version_policy.specific.versions", problem)
        return [version for version in ordered if version in self.named]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where instances of a model run.

    Attributes:
        device: kind of processor.
        gpus: numbers of the GPUs; empty for the first. Empty on CPU.
        count: runs side by side on each; 0 for the server's choice.
    """

    device: Device
    gpus: tuple[int, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How ONNX Runtime runs a model.

    Attributes:
        variants: for each device the variants to serve there, its default first; a device that is not named
            has the usual ones.
        threads: threads inside one run; 0 for the server's choice.
        graph_level: how far graphs are optimised when they are loaded.
        arena: whether CPU memory is kept in an arena between runs.
        memory_pattern: whether allocations are planned ahead for shapes seen before.
        cuda: options of the CUDA execution provider, names and values as ONNX Runtime writes them.
        cpu_fallback: whether a GPU that is not there may be replaced by the CPU.
    """

    variants: Mapping[Device, tuple[str, ...]] = field(default_factory=dict)
    threads: int = 0
    graph_level: GraphLevel = "all"
    arena: bool = True
    memory_pattern: bool = False
    cuda: Mapping[str, str] = field(default_factory=dict)
    cpu_fallback: bool = False


@dataclass(frozen=True, slots=True)
class WarmupInput:
    """One input of a warm-up request.

    Attributes:
        data_type: Triton's name without prefix, for example ``INT64``.
        dims: shape without the batch dimension, all sizes known.
        data: zeros, random values, or the content of a file.
        file: its path below ``<model>/warmup``; it holds the whole batch, raw and row-major. Empty unless ``data``
            is ``file``.
    """

    data_type: str
    dims: tuple[int, ...]
    data: Literal["zero", "random", "file"]
    file: str = ""


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A request that is run before a model is ready.

    Attributes:
        name: for messages.
        batch_size: rows.
        count: how often it is run.
        inputs: by tensor name.
    """

    name: str
    batch_size: int
    count: int
    inputs: Mapping[str, WarmupInput]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The configuration of a model.

    Attributes:
        name: the model's, as its folder's.
        max_batch_size: most rows of a raw request, and of a batch.
        version_policy: which versions are served.
        batching: how requests wait and are put together.
        placements: where it runs; at least one.
        runtime: how it runs.
        warmup: requests to run before it is ready.
        default_filename: graph file that serves requests which name no variant; empty for the usual ones.
        message: the configuration as it was written.
        source: where it was written, for error messages.
    """

    name: str
    max_batch_size: int
    version_policy: VersionPolicy
    batching: Batching
    placements: tuple[Placement, ...]
    runtime: RuntimeOptions
    warmup: tuple[WarmupSample, ...]
    default_filename: str
    message: model_config_pb2.ModelConfig = field(compare=False, repr=False)
    source: Source = field(compare=False, repr=False)

    def graphs(self, files: VersionFiles, device: Device) -> dict[str, Path]:
        """The graph of each variant that a version serves on a device, the device's default first.

        Where the configuration names no variants for the device: the file of ``default_model_filename``, then
        the usual variants of the device that exist, or whatever exists if none does.

        Raises:
            RepositoryError: the version lacks a graph that the configuration names, or has none at all.
        """
        there = dict(files.graphs)
        first: tuple[str, ...] = ()
        if self.default_filename:
            path = files.folder / self.default_filename
            if not path.is_file():
                raise self.source.error("default_model_filename", f"names a file that is not in {files.folder}")
            usual = next((variant for variant, name in GRAPHS.items() if name == self.default_filename), OWN_GRAPH)
            there[usual], first = path, (usual,)
        if wanted := self.runtime.variants.get(device, ()):
            if missing := [variant for variant in wanted if variant not in there]:
                known = ", ".join(there) or "none"
                problem = f"names variant '{missing[0]}', which {files.folder} lacks; there are: {known}"
                raise self.source.error(f'parameters["variants_{device}"]', problem)
            return {variant: there[variant] for variant in wanted}
        if not there:
            raise RepositoryError(files.folder, "holds no graph: expected cascade-int8.onnx or cascade.onnx")
        usuals = [variant for variant in (*first, *_USUAL[device]) if variant in there]
        return {variant: there[variant] for variant in usuals or there}
