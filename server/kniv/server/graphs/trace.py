"""What a graph's tensors look like at given sizes, and the values of those that sizes alone decide.

Exporters write much arithmetic on shapes. At given sizes all of it has known values, so passes need not know its many
spellings: they look at what it comes to.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from kniv.server.graphs.contract import LONGEST
from kniv.server.graphs.graph import Array, Graph, attribute

_SMALL = 4096  # weights of up to so many numbers are looked into
_LARGEST = 1 << 20  # values of more numbers are not worked out

_SIMPLE = """
    Abs Add And Cast Ceil Clip Concat ConstantOfShape Div Equal Expand Floor Gather Greater GreaterOrEqual Identity Less
    LessOrEqual Log Max Min Mul Neg Not Or Pow Range ReduceSum Reshape Shape Sign Size Slice Split Sqrt Squeeze Sub Tile
    Transpose Unsqueeze Where
"""
# What exporters compute shapes, places and masks with.
EVALUATED = frozenset(_SIMPLE.split())

Kind = tuple[int, tuple[int, ...]]  # element type, shape


@dataclass(slots=True)
class Trace:
    """Tensors of a graph at given sizes.

    Attributes:
        kinds: element type and shape by name, where they could be worked out.
        values: values by name, where sizes and weights decide them.
        elsewhere: gives the same graph's at other sizes, with rows as long as may be.
    """

    kinds: dict[str, Kind] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    elsewhere: Callable[[], Trace] | None = None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor, None where it is not known."""
        kind = self.kinds.get(name)
        return None if kind is None else kind[1]

    def scalar(self, name: str) -> float | None:
        """The one number in a tensor of known value."""
        value = self.values.get(name)
        return float(value.item()) if value is not None and value.size == 1 else None

    def constant(self, name: str) -> float | None:
        """The one number in a tensor that neither sizes nor the mask have a say in."""
        value = self.scalar(name)
        if value is None or self.elsewhere is None:
            return value
        return value if self.elsewhere().scalar(name) == value else None


def trace(graph: Graph, rows: int, length: int, mask: Array | None = None) -> Trace:
    """Work out shapes and values at ``rows`` rows of ``length`` subwords.

    Args:
        mask: the value of ``attention_mask``, for the values that it decides too.
    """
    found = Trace(elsewhere=cache(lambda: _filled(Trace(), graph, rows + 1, LONGEST, None)))
    return _filled(found, graph, rows, length, mask)


def _filled(found: Trace, graph: Graph, rows: int, length: int, mask: Array | None) -> Trace:
    for value in graph.model.graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = (rows, length)[: len(dims)]
        found.kinds[value.name] = (value.type.tensor_type.elem_type, sizes)
    if mask is not None:
        found.values["attention_mask"] = mask
    for name, tensor in graph.weights.items():
        _note_weight(found, name, tensor)
    opset = graph.opset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logarithms of zero and the like, in branches of Where that are not taken
        _walk(graph.nodes, found, opset)
    return found


def _walk(nodes: Sequence[onnx.NodeProto], found: Trace, opset: int) -> None:
    for node in nodes:
        if node.op_type == "Constant":
            _note_weight(found, node.output[0], attribute(node, "value"))
        elif node.op_type == "If":
            _branch(node, found, opset)
        else:
            _step(node, found, opset)


def _note_weight(found: Trace, name: str, tensor: onnx.TensorProto) -> None:
    found.kinds[name] = (tensor.data_type, tuple(tensor.dims))
    if int(np.prod(tensor.dims)) <= _SMALL:
        found.values[name] = numpy_helper.to_array(tensor)


def _branch(node: onnx.NodeProto, found: Trace, opset: int) -> None:
    condition = found.scalar(node.input[0])
    if condition is None:
        return
    graph = attribute(node, "then_branch" if condition else "else_branch")
    for tensor in graph.initializer:
        _note_weight(found, tensor.name, tensor)
    _walk(graph.node, found, opset)
    for name, value in zip(node.output, graph.output, strict=True):
        if value.name in found.kinds:
            found.kinds[name] = found.kinds[value.name]
        if value.name in found.values:
            found.values[name] = found.values[value.name]


def _step(node: onnx.NodeProto, found: Trace, opset: int) -> None:
    given = [name for name in node.input if name]
    if any(name not in found.kinds for name in given):
        return
    if node.op_type == "Shape" and not node.attribute:
        _note(found, node.output[0], np.array(found.kinds[given[0]][1], dtype=np.int64))
        return
    kinds = _infer(node, found, given, opset)
    if kinds is not None:
        found.kinds.update(kinds)
        if sum(int(np.prod(shape)) for _, shape in kinds.values()) > _LARGEST:
            return
    feeds = {name: found.values.get(name) for name in given}
    if node.op_type == "Shape":
        feeds = {given[0]: np.empty(found.kinds[given[0]][1], dtype=bool)}
    if node.op_type in EVALUATED and all(value is not None for value in feeds.values()):
        evaluated = ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds)
        for name, value in zip(node.output, evaluated, strict=False):
            _note(found, name, np.asarray(value))


def _note(found: Trace, name: str, value: Array) -> None:
    found.kinds[name] = (helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
    found.values[name] = value


def _infer(node: onnx.NodeProto, found: Trace, given: list[str], opset: int) -> dict[str, Kind] | None:
    if node.domain:
        return _contributed(node, found)
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    types = {name: helper.make_tensor_type_proto(*found.kinds[name]) for name in given}
    data = {name: numpy_helper.from_array(found.values[name], name) for name in given if name in found.values}
    opsets = [helper.make_opsetid("", opset)]
    inferred = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=opsets)
    kinds: dict[str, Kind] = {}
    for name, kind in inferred.items():
        tensor = kind.tensor_type
        if tensor.elem_type == TensorProto.UNDEFINED or not tensor.HasField("shape"):
            return None
        if any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
            return None
        kinds[name] = (tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim))
    return kinds


def _contributed(node: onnx.NodeProto, found: Trace) -> dict[str, Kind] | None:
    """What comes out of ONNX Runtime's own operators, those that passes and the published recipe write."""
    if node.op_type not in ("FusedMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM"):
        return None
    (kind, left), (_, right) = (found.kinds[name] for name in node.input[:2])
    if node.op_type == "FusedMatMul":  # as the attention pass writes it: [..., M, K] times [..., N, K]
        return {node.output[0]: (kind, (*left[:-1], right[-2]))}
    if node.op_type == "MatMulIntegerToFloat":
        return {node.output[0]: (TensorProto.FLOAT, (*left[:-1], right[-1]))}
    last = (right[0], left[1], right[2] // 4)  # of [S, B, D] and [directions, D, 4 h]
    shapes = ((left[0], *last), last, last)
    return {name: (TensorProto.FLOAT, shape) for name, shape in zip(node.output, shapes, strict=False) if name}
