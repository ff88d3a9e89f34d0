"""What a configuration says of a graph: compared with the graph, and completed from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tritonclient.grpc import model_config_pb2

from kniv.server.errors import RepositoryError
from kniv.server.repository.config_text import keyed
from kniv.server.repository.config_values import ModelConfig

# ONNX Runtime's names of element types, and Triton's.
_TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "STRING",
    "bfloat16": "BF16",
}
_LABELLED = ("pos_logits", "ner_logits", "label_scores", "srl_logits", "cls_logits")


class Tensor(Protocol):
    """An input or output of a graph, as a session tells of it."""

    @property
    def type(self) -> str:
        """Element type as ONNX Runtime writes it, for example ``int64`` or ``float``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, the batch's first; -1 where any size goes."""
        ...


def check_signature(config: ModelConfig, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    """Compare what a configuration says of inputs, outputs and warm-up requests with a graph.

    Raises:
        RepositoryError: they do not agree; tells the tensor, the field and the line.
    """
    _compare(config, "input", inputs)
    _compare(config, "output", outputs)
    for index, sample in enumerate(config.warmup):
        place = f"model_warmup[{index}].inputs"
        if missing := [name for name in inputs if name not in sample.inputs]:
            raise config.source.error(place, f"lacks '{missing[0]}', an input of the graph")
        for name, tensor in sample.inputs.items():
            here = keyed(place, name)
            if name not in inputs:
                raise config.source.error(here, f"is no input of the graph; there are: {', '.join(inputs)}")
            if tensor.data_type != _type(config, name, inputs[name]):
                problem = f"is {tensor.data_type}, but the graph's is {_type(config, name, inputs[name])}"
                raise config.source.error(f"{here}.data_type", problem)
            dims = inputs[name].shape[1:]
            if len(dims) != len(tensor.dims) or any(
                size not in (-1, given) for size, given in zip(dims, tensor.dims, strict=True)
            ):
                problem = f"is {list(tensor.dims)}, but the graph's is {list(dims)}, without the batch dimension"
                raise config.source.error(f"{here}.dims", problem)


def complete(
    config: ModelConfig, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> model_config_pb2.ModelConfig:
    """A configuration with all that is known once a version is open: what Triton's ModelConfig call answers.

    Written as text, it is a ``config.pbtxt`` that means the same.

    Args:
        config: the configuration, which agrees with the graph.
        inputs: the graph's.
        outputs: the graph's.

    Raises:
        RepositoryError: the graph has an input or output of a type that Triton has no name for.
    """
    message = model_config_pb2.ModelConfig()
    message.CopyFrom(config.message)
    message.name = config.name
    message.platform = message.platform or "onnxruntime_onnx"
    message.backend = message.backend or "onnxruntime"
    message.max_batch_size = config.max_batch_size
    policy = config.version_policy
    if policy.kind == "latest":
        message.version_policy.latest.num_versions = policy.newest
    _describe(config, message.input, inputs)
    _describe(config, message.output, outputs)
    for output in message.output:
        if output.name in _LABELLED:
            output.label_filename = "labels.json"
    message.dynamic_batching.priority_levels = config.batching.levels
    message.dynamic_batching.default_priority_level = config.batching.default_level
    for index, placement in enumerate(config.placements):
        group = message.instance_group[index] if index < len(message.instance_group) else message.instance_group.add()
        group.name = group.name or f"{config.name}_{index}"
        group.kind = group.KIND_CPU if placement.device == "cpu" else group.KIND_GPU
    return message


def _describe(config: ModelConfig, described: Any, tensors: Mapping[str, Tensor]) -> None:
    there = {one.name for one in described}
    for name, tensor in tensors.items():
        if name not in there:
            kind = model_config_pb2.DataType.Value(f"TYPE_{_type(config, name, tensor)}")
            described.add(name=name, data_type=kind, dims=tensor.shape[1:])


def _compare(config: ModelConfig, kind: str, tensors: Mapping[str, Tensor]) -> None:
    seen: set[str] = set()
    for index, said in enumerate(getattr(config.message, kind)):
        place = f"{kind}[{index}]"
        if said.name not in tensors:
            problem = f"'{said.name}' is no {kind} of the graph; there are: {', '.join(tensors)}"
            raise config.source.error(f"{place}.name", problem)
        if said.name in seen:
            raise config.source.error(f"{place}.name", f"'{said.name}' is described twice")
        seen.add(said.name)
        tensor = tensors[said.name]
        told, there = model_config_pb2.DataType.Name(said.data_type), f"TYPE_{_type(config, said.name, tensor)}"
        if told != there:
            raise config.source.error(f"{place}.data_type", f"of '{said.name}' is {told}, but the graph's is {there}")
        if tuple(said.dims) != tensor.shape[1:]:
            problem = f"of '{said.name}' is {list(said.dims)}, but the graph's is {list(tensor.shape[1:])}"
            raise config.source.error(f"{place}.dims", f"{problem}; both are without the batch dimension")


def _type(config: ModelConfig, name: str, tensor: Tensor) -> str:
    if tensor.type not in _TYPES:
        raise RepositoryError(
            config.source.path, f"the graph's '{name}' is of type {tensor.type}, which cannot be sent"
        )
    return _TYPES[tensor.type]
