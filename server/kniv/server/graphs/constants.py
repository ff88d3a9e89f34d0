"""What no input decides is worked out once: relative-position projections above all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from kniv.server.graphs.graph import Array, Graph
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.trace import EVALUATED

NAME = "constants"
_QUANTISED = {"DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}
_FOLDED = EVALUATED | _QUANTISED | {"Erf", "Gemm", "LayerNormalization", "MatMul", "ReduceMean", "Softmax"}
_LARGEST = 1 << 22  # numbers; an operator that makes more out of constants is cheaper to run than to store
_GROWTH = 16  # a constant may be so many times as large as all that it is made of


def apply(graph: Graph) -> PassReport:
    """Replace nodes that read nothing but weights by their results, and take ``Identity`` nodes out."""
    graph.prune()
    opset, folded = graph.opset(), 0
    for node in list(graph.nodes):
        if node.op_type == "Identity" and node.output[0] not in graph.outputs:
            graph.redirect(node.output[0], node.input[0])
            graph.remove([node])
            folded += 1
            continue
        tensors = [graph.weights.get(name) for name in node.input if name]
        if node.domain or node.op_type not in _FOLDED or not tensors or set(node.output) & set(graph.outputs):
            continue
        size = sum(int(np.prod(tensor.dims)) for tensor in tensors if tensor is not None)
        if None in tensors or size > _LARGEST:
            continue
        given = {name: value for name in node.input if name and (value := graph.value(name)) is not None}
        results = _sums(node, given) if node.op_type == "MatMulInteger" else _results(node, given, opset)
        if sum(np.size(result) for result in results) > max(_GROWTH * size, 4096):
            continue
        graph.remove([node])
        for name, result in zip(node.output, results, strict=False):
            graph.redirect(name, graph.weight(name + "_folded", np.asarray(result)))
        folded += 1
    graph.prune()
    return PassReport(NAME, folded, "input-independent nodes folded" if folded else "nothing to fold")


def _results(node: onnx.NodeProto, given: Mapping[str, Array], opset: int) -> Sequence[Array]:
    found: Sequence[Array] = ReferenceEvaluator(node, opsets={"": opset}).run(None, dict(given))
    return found


def _sums(node: onnx.NodeProto, given: Mapping[str, Array]) -> Sequence[Array]:
    """``MatMulInteger`` in float64, which holds its sums: NumPy's integer products take a hundred times as long."""
    sides = [given[name].astype(np.float64) for name in node.input[:2]]
    for place, name in enumerate(node.input[2:]):
        if name:
            zeros = given[name].astype(np.float64)
            sides[place] -= zeros[..., None] if place == 0 and zeros.ndim else zeros
    return [(sides[0] @ sides[1]).astype(np.int32)]
