"""Random configurations that are valid."""

from __future__ import annotations

from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from kniv.server.repository.config_runtime import CUDA_OPTIONS, PARAMETERS

_NAMES = st.text(max_size=5)
_COUNTS = st.integers(0, 5)
_TIMES = st.integers(0, 2**64 - 1)
_VALUES = {
    "variants_cpu": st.sampled_from(["int8", "fp32,int8", " fp16 , default"]),
    "variants_cuda": st.sampled_from(["fp16", "fp32,fp16"]),
    "intra_op_thread_count": st.integers(0, 64).map(str),
    "gpu_mem_limit": st.integers(1, 2**64 - 1).map(str),
    "arena_extend_strategy": st.sampled_from(["0", "1", "kSameAsRequested", "kNextPowerOfTwo"]),
    "cudnn_conv_algo_search": st.sampled_from(["0", "1", "2", "HEURISTIC", "default"]),
    "sdpa_kernel": _COUNTS.map(str),
    "tunable_op_max_tuning_duration_ms": _COUNTS.map(str),
}
_SWITCH = st.sampled_from(["0", "1", "true", "False"])


@st.composite
def configurations(draw: st.DrawFn) -> pb.ModelConfig:
    """A ModelConfig with any of the settings that have an effect here, and no tensors."""
    message = pb.ModelConfig(
        name=draw(st.sampled_from(["", "m"])),
        backend=draw(st.sampled_from(["", "onnxruntime", "kniv"])),
        platform=draw(st.sampled_from(["", "onnxruntime_onnx"])),
        max_batch_size=draw(st.integers(0, 2**31 - 1)),
        default_model_filename=draw(st.sampled_from(["", "own.onnx", "cascade.onnx"])),
        instance_group=draw(st.lists(_groups(), max_size=3)),
    )
    for choose in draw(st.sets(st.sampled_from([_version_policy, _batching, _parameters, _optimization, _warmup]))):
        choose(draw, message)
    return message


@st.composite
def _groups(draw: st.DrawFn) -> pb.ModelInstanceGroup:
    kind = draw(st.sampled_from(["KIND_AUTO", "KIND_CPU", "KIND_GPU"]))
    gpus = draw(st.lists(st.integers(0, 7), unique=True)) if kind == "KIND_GPU" else []
    return pb.ModelInstanceGroup(name=draw(_NAMES), kind=kind, count=draw(_COUNTS), gpus=gpus)


def _version_policy(draw: st.DrawFn, message: pb.ModelConfig) -> None:
    kind = draw(st.sampled_from(["latest", "all", "specific"]))
    getattr(message.version_policy, kind).SetInParent()
    if kind == "latest":
        message.version_policy.latest.num_versions = draw(_COUNTS)
    elif kind == "specific":
        versions = draw(st.lists(st.integers(1, 2**63 - 1), min_size=1, unique=True))
        message.version_policy.specific.versions.extend(versions)


def _batching(draw: st.DrawFn, message: pb.ModelConfig) -> None:
    block = message.dynamic_batching
    levels = draw(_COUNTS)
    block.priority_levels = levels
    block.default_priority_level = draw(st.integers(min(levels, 1), max(levels, 1)))
    block.max_queue_delay_microseconds = draw(_TIMES)
    policies = [block.default_queue_policy]
    policies += [block.priority_queue_policy[level] for level in draw(st.sets(st.integers(1, max(levels, 1))))]
    for policy in policies:
        policy.timeout_action = draw(st.sampled_from([policy.REJECT, policy.DELAY]))
        policy.default_timeout_microseconds = draw(_TIMES)
        policy.allow_timeout_override = draw(st.booleans())
        policy.max_queue_size = draw(_COUNTS)


def _parameters(draw: st.DrawFn, message: pb.ModelConfig) -> None:
    for key in draw(st.sets(st.sampled_from(sorted(set(PARAMETERS) - set(CUDA_OPTIONS))))):
        message.parameters[key].string_value = draw(_VALUES.get(key, _SWITCH))


def _optimization(draw: st.DrawFn, message: pb.ModelConfig) -> None:
    message.optimization.graph.level = draw(st.sampled_from([-1, 0, 1, 2]))
    if draw(st.booleans()):
        cuda = message.optimization.execution_accelerators.gpu_execution_accelerator.add(name="cuda")
        for key in draw(st.sets(st.sampled_from(sorted(CUDA_OPTIONS)))):
            cuda.parameters[key] = draw(_VALUES.get(key, _SWITCH))


def _warmup(draw: st.DrawFn, message: pb.ModelConfig) -> None:
    sample = message.model_warmup.add(name=draw(_NAMES), batch_size=1, count=draw(_COUNTS))
    for name, dims in (("input_ids", [8]), ("attention_mask", [8]), ("predicate_idx", [])):
        tensor = sample.inputs[name]
        tensor.data_type = pb.TYPE_INT64
        tensor.dims.extend(dims)
        kind = draw(st.sampled_from(["zero_data", "random_data", "input_data_file"]))
        setattr(tensor, kind, "data/ids.bin" if kind == "input_data_file" else True)
