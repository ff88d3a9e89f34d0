"""Every field of Triton's ModelConfig: whether it has its effect here, and how or why not.

The table of docs/repository.md is this one. A field of a message that is not supported needs no entry of its own;
any other field that is not listed is refused, so that a newer ``tritonclient`` brings nothing that has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from kniv.server.repository.config_text import Source, keyed, map_value


@dataclass(frozen=True, slots=True)
class Support:
    """What a field does here.

    Attributes:
        has_effect: whether it may be set to anything but its default.
        note: how it works; why there is no use for it, and what there is instead.
    """

    has_effect: bool
    note: str


def _yes(note: str) -> Support:
    return Support(True, note)


def _no(note: str) -> Support:
    return Support(False, note)


_TENSORRT = "For TensorRT, which is not used."
_MILLIONTHS = "Microseconds; 0 for none."

SUPPORT: Mapping[str, Support] = {
    "name": _yes("The folder's name, or empty."),
    "platform": _yes('`"onnxruntime_onnx"`, or empty.'),
    "backend": _yes('`"onnxruntime"` or `"kniv"`, or empty.'),
    "runtime": _no("The library of a backend; ONNX Runtime is built in."),
    "version_policy": _yes("`latest` with one version if not set."),
    "version_policy.latest": _yes("The newest versions on disk."),
    "version_policy.latest.num_versions": _yes("How many; 0 is 1."),
    "version_policy.all": _yes("Every version on disk."),
    "version_policy.specific": _yes("These versions."),
    "version_policy.specific.versions": _yes("At least one; each must be on disk."),
    "max_batch_size": _yes(
        "Most rows of a raw request and of a batch; 64 if 0. Graphs always have a batch dimension; `dims` leave it out."
    ),
    "input": _yes("Compared with the graph; what is not listed is taken from it."),
    "input.name": _yes("Of an input of the graph."),
    "input.data_type": _yes("The graph's."),
    "input.format": _no("For images."),
    "input.dims": _yes(
        "The graph's, without the batch dimension; -1 where any size goes. `predicate_idx` has none: `[]`."
    ),
    "input.reshape": _no("Tensors travel in the graph's own shapes; `predicate_idx` is [batch]."),
    "input.is_shape_tensor": _no(_TENSORRT),
    "input.allow_ragged_batch": _no("Rows of unequal length always share batches, padded and masked."),
    "input.optional": _no("A cascade needs all its inputs."),
    "input.is_non_linear_format_io": _no(_TENSORRT),
    "output": _yes("Compared with the graph; what is not listed is taken from it."),
    "output.name": _yes("Of an output of the graph."),
    "output.data_type": _yes("The graph's."),
    "output.dims": _yes("The graph's, without the batch dimension; -1 where any size goes."),
    "output.reshape": _no("Tensors travel in the graph's own shapes."),
    "output.label_filename": _yes(
        '`"labels.json"` of the version, which holds all label lists; filled in where it is left out.'
    ),
    "output.is_shape_tensor": _no(_TENSORRT),
    "output.is_non_linear_format_io": _no(_TENSORRT),
    "batch_input": _no("A cascade has no inputs that tell of the whole batch."),
    "batch_output": _no("A cascade has no outputs that tell of the whole batch."),
    "optimization": _yes("See the fields in it."),
    "optimization.graph": _yes("ONNX Runtime's graph optimisations."),
    "optimization.graph.level": _yes("As Triton's ONNX Runtime backend: 0 all, 1 extended, -1 basic, 2 none."),
    "optimization.priority": _no("For TensorRT. Requests have priorities: `dynamic_batching.priority_levels`."),
    "optimization.cuda": _yes("May stand there, with nothing in it."),
    "optimization.cuda.graphs": _no("A CUDA graph replays one shape; batches have many."),
    "optimization.cuda.busy_wait_events": _no(_TENSORRT),
    "optimization.cuda.graph_spec": _no("For TensorRT; ONNX Runtime captures a graph by running a shape."),
    "optimization.cuda.output_copy_stream": _no(_TENSORRT),
    "optimization.execution_accelerators": _yes("ONNX Runtime's execution providers."),
    "optimization.execution_accelerators.gpu_execution_accelerator": _yes("At most one, for instances on a GPU."),
    "optimization.execution_accelerators.gpu_execution_accelerator.name": _yes('`"cuda"`; no other is built in.'),
    "optimization.execution_accelerators.gpu_execution_accelerator.parameters": _yes(
        "Those of docs/repository.md, under Options of the CUDA provider."
    ),
    "optimization.execution_accelerators.cpu_execution_accelerator": _no("No other CPU provider is built in."),
    "optimization.input_pinned_memory": _yes("May be there without effect."),
    "optimization.input_pinned_memory.enable": _no("ONNX Runtime makes its own copies to and from the GPU."),
    "optimization.output_pinned_memory": _yes("May be there without effect."),
    "optimization.output_pinned_memory.enable": _no("ONNX Runtime makes its own copies to and from the GPU."),
    "optimization.gather_kernel_buffer_threshold": _no(_TENSORRT),
    "optimization.eager_batching": _no(_TENSORRT),
    "dynamic_batching": _yes(
        "Batching is always on. Without this block: 3 priority levels, 2 the default, no delay, no limits."
    ),
    "dynamic_batching.preferred_batch_size": _no("A batch is filled up to a number of padded subwords, not of rows."),
    "dynamic_batching.max_queue_delay_microseconds": _yes("How long a request may be held back for others to join it."),
    "dynamic_batching.preserve_ordering": _no("A stream asks for its own order: `ORDERING_IN_ORDER`."),
    "dynamic_batching.priority_levels": _yes("Up to 100; 0 is one level. 1 is the most urgent."),
    "dynamic_batching.default_priority_level": _yes(
        "From 1 to `priority_levels`; may be left out if there is one level."
    ),
    "dynamic_batching.default_queue_policy": _yes("Policy of the levels that have none of their own."),
    "dynamic_batching.priority_queue_policy": _yes("By level, from 1 to `priority_levels`."),
    **{
        f"dynamic_batching.{policy}.{name}": _yes(note)
        for policy in ("default_queue_policy", "priority_queue_policy")
        for name, note in (
            ("timeout_action", "`REJECT`, or `DELAY`: served after all that are within their time."),
            ("default_timeout_microseconds", _MILLIONTHS),
            ("allow_timeout_override", "A request may then name a shorter timeout."),
            ("max_queue_size", "Requests that may wait; 0 for no bound."),
        )
    },
    "sequence_batching": _no("A cascade keeps no state between requests; earlier turns travel with a turn."),
    "ensemble_scheduling": _no(
        "The pipeline from text to annotations is the server's own: `kniv.v1.AnnotationService`."
    ),
    "instance_group": _yes(
        "Where instances run; if not set, on the device that the server was told. They share a session."
    ),
    "instance_group.name": _yes("For people; `<model>_<index>` if empty."),
    "instance_group.kind": _yes(
        "`KIND_CPU`, `KIND_GPU`, or `KIND_AUTO` for the device that the server was told. `KIND_MODEL` is not "
        "supported: a graph does not choose its device."
    ),
    "instance_group.count": _yes("Batches that run side by side on each device; 0 for the server's choice."),
    "instance_group.rate_limiter": _no("Instances share threads that the server limits."),
    "instance_group.gpus": _yes("With `KIND_GPU`: their numbers; GPU 0 if empty, where Triton takes all."),
    "instance_group.secondary_devices": _no(_TENSORRT),
    "instance_group.profile": _no(_TENSORRT),
    "instance_group.passive": _no("There would be no use for instances that take no requests."),
    "instance_group.host_policy": _no("Bind the process to cores or memory with the system's own tools."),
    "default_model_filename": _yes(
        "A graph in the version's folder, served where no variant is named. One of the three usual names means that "
        "variant; any other is a variant called `default`."
    ),
    "cc_model_filenames": _no("A graph is the same for all GPUs; variants are chosen by device: `parameters`."),
    "metric_tags": _no("Metrics carry model and version."),
    "parameters": _yes("Those of docs/repository.md, under Parameters; any other key is an error."),
    "parameters.string_value": _yes("The value."),
    "model_warmup": _yes("Requests that run before the model is ready, besides the server's own trial runs."),
    "model_warmup.name": _yes("For messages."),
    "model_warmup.batch_size": _yes("Rows, from 1 to `max_batch_size`."),
    "model_warmup.inputs": _yes("Every input of the graph, by name."),
    "model_warmup.inputs.data_type": _yes("The graph's."),
    "model_warmup.inputs.dims": _yes("Without the batch dimension; sizes are known here."),
    "model_warmup.inputs.zero_data": _yes("Zeros; ones for `attention_mask`, since no row is all padding."),
    "model_warmup.inputs.random_data": _yes("As zeros: what is warmed depends on shapes alone."),
    "model_warmup.inputs.input_data_file": _yes(
        "Raw row-major values of all rows, from a file below the model's `warmup` folder."
    ),
    "model_warmup.count": _yes("How often; 0 is once."),
    "model_operations": _no("Code of others is not loaded."),
    "model_transaction_policy": _yes("May be there without effect."),
    "model_transaction_policy.decoupled": _no("Every raw request has exactly one answer."),
    "model_repository_agents": _no("Checksums are compared anyhow: `SHA256SUMS` and `metadata.json`."),
    "response_cache": _yes("May be there without effect."),
    "response_cache.enable": _no("Answers are not cached: texts seldom repeat, and are their writers' own."),
    "model_metrics": _no("Buckets are the same for all models."),
}


def check_support(message: Message, source: Source, place: str = "", name: str = "") -> None:
    """Refuse what has no effect here.

    Args:
        message: a configuration, or a message in it.
        source: where it was written.
        place: dotted path of the message.
        name: the same without indices and keys.

    Raises:
        RepositoryError: a field is set that has no effect here, or an enumeration has a number without a name.
    """
    for field, value in message.ListFields():
        full = f"{name}.{field.name}" if name else field.name
        here = f"{place}.{field.name}" if place else field.name
        support = SUPPORT.get(full, _no("This version of the server does not know it."))
        if not support.has_effect:
            raise source.error(here, f"is not supported. {support.note}")
        if field.enum_type is not None:
            if value not in field.enum_type.values_by_number:
                raise source.error(
                    here, f"has no value {value}; there are: {', '.join(field.enum_type.values_by_name)}"
                )
        elif field.message_type is None:
            continue
        elif (held := map_value(field)) is not None:
            if held.message_type is not None:
                for key in value:
                    check_support(value[key], source, keyed(here, key), full)
        elif field.is_repeated:
            for index, item in enumerate(value):
                check_support(item, source, f"{here}[{index}]", full)
        else:
            check_support(value, source, here, full)
