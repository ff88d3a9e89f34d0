"""Half-precision graphs for GPUs: what is safe in FP16 runs in FP16, the rest stays in FP32 between casts.

In FP32 stay LSTMs (their cells add up over a sentence), sums over subwords, logarithms, roots and powers, and every
operator with a weight or a constant that FP16 cannot hold. Layer norms take their mean and variance in FP32 whatever
they read (``stash_type`` 1, ONNX's default). Inputs and outputs keep their types.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from kniv.server.graphs.graph import Graph, attribute, reads, rename_reads
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.trace import trace

NAME = "half"
_SIMPLE = """
    Add ArgMax Concat Einsum Erf Expand FusedMatMul Gather GatherElements GatherND Gelu Gemm Identity LayerNormalization
    MatMul Mul Relu Reshape Sigmoid Slice Softmax Split Squeeze Sub Tanh Tile Transpose Unsqueeze Where
"""
_HALF = frozenset(_SIMPLE.split())
_LARGEST, _LEAST = 65504.0, 2.0**-14  # numbers below the least lose digits
_QUANTISED = {"MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLSTM"}


def apply(graph: Graph) -> PassReport:
    """Put a float graph into half precision, before its heads are put into branches."""
    if any(node.op_type in _QUANTISED for node in graph.nodes):
        return PassReport(NAME, 0, "the graph is quantised")
    sizes = trace(graph, 2, 5)
    floats = {name for name, (kind, _) in sizes.kinds.items() if kind == TensorProto.FLOAT}
    unknown = [name for node in graph.nodes for name in node.output if name and name not in sizes.kinds]
    if unknown:
        return PassReport(NAME, 0, f"the type of {unknown[0]} is not known")
    converted = _Writer(graph, floats).run()
    graph.prune()
    return PassReport(NAME, converted, f"{converted} of {len(graph.nodes)} operators in half precision")


class _Writer:
    def __init__(self, graph: Graph, floats: set[str]) -> None:
        self.graph, self.floats = graph, floats
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()  # tensors that are in half precision
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> int:
        graph, outputs = self.graph, set(self.graph.outputs)
        count = 0
        graph.prune()  # puts the nodes in order: what a node reads has been seen
        for node in list(graph.nodes):
            half = self._fits(node)
            kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            for name in sorted(set(reads(node)) & self.floats):
                if (given := self._as(name, kind)) != name:
                    rename_reads(node, name, given)
            self.nodes.append(node)
            if not half:
                continue
            count += 1
            for place, name in enumerate(node.output):
                if name not in self.floats:
                    continue
                inner = graph.fresh(name + "_half") if name in outputs else name
                node.output[place] = inner
                self.made.add(inner)
                if inner != name:
                    self.casts[name, TensorProto.FLOAT16] = inner
                    self._cast(inner, name, TensorProto.FLOAT)
        graph.nodes = self.nodes
        graph.touch()
        return count

    def _fits(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _HALF or not any(name in self.floats for name in (*node.input, *node.output)):
            return False
        if node.op_type == "LayerNormalization" and attribute(node, "stash_type", 1) != TensorProto.FLOAT:
            return False
        weights = [self.graph.weights[name] for name in node.input if name in self.floats & self.graph.weights.keys()]
        return all(self._holds(tensor.name) for tensor in weights)

    def _holds(self, name: str) -> bool:
        value = self.graph.value(name)
        if value is None:
            return False
        sizes = np.abs(value)
        if value.size == 1 and 0 < float(sizes.max()) < _LEAST:  # what keeps a divisor from zero would be gone
            return False
        return value.size == 0 or float(sizes.max()) <= _LARGEST

    def _as(self, name: str, kind: int) -> str:
        """A float tensor in the precision that a node reads."""
        if (name in self.made) == (kind == TensorProto.FLOAT16) and name not in self.graph.weights:
            return name
        if name in self.graph.weights and kind == TensorProto.FLOAT:
            return name
        if (name, kind) not in self.casts:
            self.casts[name, kind] = self._other(name, kind)
        return self.casts[name, kind]

    def _other(self, name: str, kind: int) -> str:
        graph = self.graph
        value = graph.value(name) if name in graph.weights else None
        if value is not None:
            stored = graph.weight(name + "_half", value.astype(np.float16))
            return stored
        suffix = "_half" if kind == TensorProto.FLOAT16 else "_full"
        return self._cast(name, graph.fresh(name + suffix), kind)

    def _cast(self, name: str, target: str, kind: int) -> str:
        self.nodes.append(onnx.helper.make_node("Cast", [name], [target], name=target + "_cast", to=kind))
        return target
