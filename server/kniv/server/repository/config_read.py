"""From Triton's ModelConfig to the server's own terms, with every value checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, Literal

from tritonclient.grpc import model_config_pb2

from kniv.server.repository.config_runtime import read_runtime
from kniv.server.repository.config_support import check_support
from kniv.server.repository.config_text import Source, keyed
from kniv.server.repository.config_values import (
    Batching,
    Device,
    ModelConfig,
    Placement,
    QueuePolicy,
    VersionPolicy,
    WarmupInput,
    WarmupSample,
)
from kniv.server.repository.layout import stays_inside

DEFAULT_BATCH = 64
_LEVELS, _DEFAULT_LEVEL = 3, 2
_MOST_LEVELS = 100
_MICROSECONDS = 1e-6
_DATA: dict[str, Literal["zero", "random", "file"]] = {
    "zero_data": "zero",
    "random_data": "random",
    "input_data_file": "file",
}


def read_config(
    message: model_config_pb2.ModelConfig, name: str, source: Source, default_device: Device
) -> ModelConfig:
    """Check a configuration and fill in the defaults.

    Args:
        message: the configuration as it was written.
        name: the model's.
        source: where it was written.
        default_device: where instances run that leave it open.

    Raises:
        RepositoryError: a field is not supported, or has a value that it cannot have.
    """
    check_support(message, source)
    if message.name not in ("", name):
        raise source.error(
            "name", f"is '{message.name[:100]}', but the model's folder is '{name}'; they must be the same"
        )
    if message.platform not in ("", "onnxruntime_onnx"):
        raise source.error("platform", 'must be "onnxruntime_onnx"; only ONNX graphs are served')
    if message.backend not in ("", "onnxruntime", "kniv"):
        raise source.error("backend", 'must be "onnxruntime" or "kniv"; only ONNX graphs are served')
    if message.max_batch_size < 0:
        raise source.error("max_batch_size", f"must not be negative; 0 is {DEFAULT_BATCH}")
    filename = message.default_model_filename
    if filename and (not stays_inside(filename) or filename != PurePosixPath(filename).name):
        raise source.error("default_model_filename", "must be the name of a file in the version's folder")
    for index, output in enumerate(message.output):
        if output.label_filename not in ("", "labels.json"):
            raise source.error(f"output[{index}].label_filename", 'must be "labels.json"')
    most = message.max_batch_size or DEFAULT_BATCH
    return ModelConfig(
        name=name,
        max_batch_size=most,
        version_policy=_version_policy(message.version_policy, source),
        batching=_batching(message, source),
        placements=tuple(
            _placement(group, f"instance_group[{index}]", source, default_device)
            for index, group in enumerate(message.instance_group)
        )
        or (Placement(default_device),),
        runtime=read_runtime(message, source),
        warmup=tuple(
            _warmup(sample, f"model_warmup[{index}]", source, most) for index, sample in enumerate(message.model_warmup)
        ),
        default_filename=filename,
        message=message,
        source=source,
    )


def _version_policy(policy: Any, source: Source) -> VersionPolicy:
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy(source, "all")
    if kind != "specific":
        return VersionPolicy(source, newest=policy.latest.num_versions or 1)
    where = "version_policy.specific.versions"
    named = _distinct(policy.specific.versions, 1, where, "a version", source)
    if not named:
        raise source.error(where, "must name at least one version")
    return VersionPolicy(source, "specific", named=named)


def _batching(message: model_config_pb2.ModelConfig, source: Source) -> Batching:
    if not message.HasField("dynamic_batching"):
        policies = {level: QueuePolicy() for level in range(1, _LEVELS + 1)}
        return Batching(0.0, _LEVELS, _DEFAULT_LEVEL, policies)
    block, where = message.dynamic_batching, "dynamic_batching"
    levels = block.priority_levels or 1
    if levels > _MOST_LEVELS:
        raise source.error(f"{where}.priority_levels", f"must not be more than {_MOST_LEVELS}")
    default = block.default_priority_level or (1 if levels == 1 else 0)
    if not 1 <= default <= levels:
        raise source.error(f"{where}.default_priority_level", f"must be from 1 to priority_levels, which is {levels}")
    if beyond := sorted(level for level in block.priority_queue_policy if not 1 <= level <= levels):
        place = keyed(f"{where}.priority_queue_policy", beyond[0])
        raise source.error(place, f"is for no level: they go from 1 to priority_levels, which is {levels}")
    own, usual = block.priority_queue_policy, _queue_policy(block.default_queue_policy)
    policies = {level: _queue_policy(own[level]) if level in own else usual for level in range(1, levels + 1)}
    return Batching(block.max_queue_delay_microseconds * _MICROSECONDS, levels, default, policies)


def _queue_policy(policy: Any) -> QueuePolicy:
    return QueuePolicy(
        timeout=policy.default_timeout_microseconds * _MICROSECONDS,
        on_timeout="delay" if policy.timeout_action == policy.DELAY else "reject",
        allow_timeout_override=policy.allow_timeout_override,
        max_queue_size=policy.max_queue_size,
    )


def _placement(group: Any, place: str, source: Source, default_device: Device) -> Placement:
    if group.kind == group.KIND_MODEL:
        raise source.error(f"{place}.kind", "KIND_MODEL is not supported: name KIND_CPU, KIND_GPU or KIND_AUTO")
    if group.count < 0:
        raise source.error(f"{place}.count", "must not be negative; 0 leaves it to the server")
    gpus = _distinct(group.gpus, 0, f"{place}.gpus", "a GPU", source)
    if gpus and group.kind != group.KIND_GPU:
        raise source.error(f"{place}.gpus", "needs kind: KIND_GPU")
    kinds: dict[int, Device] = {group.KIND_CPU: "cpu", group.KIND_GPU: "cuda"}
    return Placement(kinds.get(group.kind, default_device), gpus, group.count)


def _warmup(sample: Any, place: str, source: Source, most: int) -> WarmupSample:
    if not 1 <= sample.batch_size <= most:
        raise source.error(f"{place}.batch_size", f"must be from 1 to max_batch_size, which is {most}")
    inputs = {}
    for name in sorted(sample.inputs):
        tensor, here = sample.inputs[name], keyed(f"{place}.inputs", name)
        chosen = tensor.WhichOneof("input_data_type")
        if chosen is None:
            raise source.error(here, f"must have one of {', '.join(_DATA)}")
        if any(size < 1 for size in tensor.dims):
            raise source.error(f"{here}.dims", "must be positive: a request has sizes, not -1")
        if chosen == "input_data_file" and not stays_inside(tensor.input_data_file):
            raise source.error(f"{here}.input_data_file", "must be the path of a file below the model's warmup folder")
        kind = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        inputs[name] = WarmupInput(kind, tuple(tensor.dims), _DATA[chosen], tensor.input_data_file)
    return WarmupSample(sample.name, sample.batch_size, sample.count or 1, inputs)


def _distinct(numbers: Iterable[int], lowest: int, place: str, what: str, source: Source) -> tuple[int, ...]:
    seen: dict[int, None] = {}
    for index, number in enumerate(numbers):
        if number < lowest or number in seen:
            raise source.error(f"{place}[{index}]", f"must be the number of {what}, from {lowest}, each once")
        seen[number] = None
    return tuple(seen)
