"""How ONNX Runtime is to run a model: ``parameters`` and ``optimization`` of a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tritonclient.grpc import model_config_pb2

from kniv.server.repository.config_text import Source, keyed
from kniv.server.repository.config_values import Device, GraphLevel, RuntimeOptions
from kniv.server.repository.layout import GRAPHS, OWN_GRAPH

# A value as ONNX Runtime wants it, or what it would have to be.
_Reader = Callable[[str], str]

# As Triton's ONNX Runtime backend reads the field.
_LEVELS: Mapping[int, GraphLevel] = {0: "all", 1: "extended", -1: "basic", 2: "disable"}
_YES, _NO = ("1", "true"), ("0", "false")

# Triton's parameters that are not taken, and why.
_REFUSED = {
    "execution_mode": "runs go side by side: instance_group.count",
    "inter_op_thread_count": "runs go side by side: instance_group.count",
    "memory.enable_memory_arena_shrinkage": "switch the arena off: enable_mem_arena",
    "session.use_device_allocator_for_initializers": "weights are loaded as ONNX Runtime does by default",
}

_CUDA_REFUSED = {
    "device_id": "is set by instance_group.gpus",
    "enable_cuda_graph": "is not supported: a graph replays one shape, and batches have many",
}


class _WrongValueError(Exception):
    """Tells what a value would have to be."""


def _switch(value: str) -> str:
    if value.lower() in _YES:
        return "1"
    if value.lower() in _NO:
        return "0"
    raise _WrongValueError("must be 1, true, 0 or false")


def _number(lowest: int, highest: int) -> _Reader:
    def read(value: str) -> str:
        if not re.fullmatch("[0-9]{1,20}", value) or not lowest <= int(value) <= highest:
            raise _WrongValueError(f"must be a number from {lowest} to {highest}")
        return str(int(value))

    return read


def _choice(*names: str) -> _Reader:
    """One of ONNX Runtime's names, or its place among them, as Triton writes it."""

    def read(value: str) -> str:
        by_either = {name.lower(): name for name in names} | {str(place): name for place, name in enumerate(names)}
        if value.lower() not in by_either:
            raise _WrongValueError(f"must be one of {', '.join(names)}")
        return by_either[value.lower()]

    return read


def _variants(value: str) -> str:
    known = (*GRAPHS, OWN_GRAPH)
    names = [name.strip() for name in value.split(",")]
    if not set(names) <= set(known) or len(set(names)) != len(names):
        raise _WrongValueError(f"must be a list of distinct variants, the default first, of {', '.join(known)}")
    return ",".join(names)


# Options of the CUDA provider, https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html,
# without those that hold addresses, and without device_id, which instance_group names.
CUDA_OPTIONS: Mapping[str, _Reader] = {
    "arena_extend_strategy": _choice("kNextPowerOfTwo", "kSameAsRequested"),
    "cudnn_conv_algo_search": _choice("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "gpu_mem_limit": _number(1, 2**64 - 1),
    "do_copy_in_default_stream": _switch,
    "cudnn_conv_use_max_workspace": _switch,
    "cudnn_conv1d_pad_to_nc1d": _switch,
    "enable_skip_layer_norm_strict_mode": _switch,
    "fuse_conv_bias": _switch,
    "prefer_nhwc": _switch,
    "sdpa_kernel": _number(0, 2**31 - 1),
    "tunable_op_enable": _switch,
    "tunable_op_tuning_enable": _switch,
    "tunable_op_max_tuning_duration_ms": _number(0, 2**31 - 1),
    "use_ep_level_unified_stream": _switch,
    "use_tf32": _switch,
}
# Those of them that Triton also takes as parameters of the model.
_CUDA_PARAMETERS = ("arena_extend_strategy", "cudnn_conv_algo_search", "gpu_mem_limit", "do_copy_in_default_stream")
PARAMETERS: Mapping[str, _Reader] = {
    "variants_cpu": _variants,
    "variants_cuda": _variants,
    "cpu_fallback": _switch,
    "intra_op_thread_count": _number(0, 1024),
    "enable_mem_arena": _switch,
    "enable_mem_pattern": _switch,
    **{name: CUDA_OPTIONS[name] for name in _CUDA_PARAMETERS},
}


def read_runtime(message: model_config_pb2.ModelConfig, source: Source) -> RuntimeOptions:
    """The options that a configuration sets.

    Raises:
        RepositoryError: a parameter is unknown, or a value is none that it can have.
    """
    given: dict[str, str] = {}
    for key in sorted(message.parameters):
        place = keyed("parameters", key)
        if key not in PARAMETERS:
            reason = f"is not supported: {_REFUSED[key]}" if key in _REFUSED else "is no parameter"
            raise source.error(place, f"{reason}; there are: {', '.join(PARAMETERS)}")
        given[key] = _read(PARAMETERS[key], message.parameters[key].string_value, f"{place}.string_value", source)
    level = message.optimization.graph.level
    if level not in _LEVELS:
        raise source.error("optimization.graph.level", "must be 0 (all), 1 (extended), -1 (basic) or 2 (none)")
    listed: dict[Device, str] = {"cpu": given.get("variants_cpu", ""), "cuda": given.get("variants_cuda", "")}
    return RuntimeOptions(
        variants={device: tuple(names.split(",")) for device, names in listed.items() if names},
        threads=int(given.get("intra_op_thread_count", "0")),
        graph_level=_LEVELS[level],
        arena=given.get("enable_mem_arena", "1") == "1",
        memory_pattern=given.get("enable_mem_pattern", "0") == "1",
        cuda=_cuda(message.optimization, given, source),
        cpu_fallback=given.get("cpu_fallback", "0") == "1",
    )


def _cuda(optimization: Any, parameters: Mapping[str, str], source: Source) -> dict[str, str]:
    """Options of the CUDA provider, from the two places where Triton has them."""
    options = {name: parameters[name] for name in _CUDA_PARAMETERS if name in parameters}
    where = "optimization.execution_accelerators.gpu_execution_accelerator"
    for index, accelerator in enumerate(optimization.execution_accelerators.gpu_execution_accelerator):
        if accelerator.name != "cuda":
            raise source.error(f"{where}[{index}].name", 'must be "cuda"; no other accelerator is built in')
        if index:
            raise source.error(f"{where}[{index}]", "names the accelerator again; keep one")
        for key in sorted(accelerator.parameters):
            place = keyed(f"{where}[{index}].parameters", key)
            if key not in CUDA_OPTIONS:
                hint = _CUDA_REFUSED.get(key, "is no option of the CUDA provider")
                raise source.error(place, f"{hint}; there are: {', '.join(CUDA_OPTIONS)}")
            if key in options:
                raise source.error(place, "is set in the model's parameters too; keep one")
            options[key] = _read(CUDA_OPTIONS[key], accelerator.parameters[key], place, source)
    return options


def _read(reader: _Reader, value: str, place: str, source: Source) -> str:
    try:
        return reader(value)
    except _WrongValueError as error:
        raise source.error(place, f"{error}, not '{value[:100]}'") from None
