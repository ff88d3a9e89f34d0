"""Products quantised at run time, each as the one node that it is.

ONNX Runtime's dynamic quantisation (``quantize_dynamic``, the published INT8 recipe) writes a layer as six nodes:
``DynamicQuantizeLinear``, ``MatMulInteger``, ``Cast``, two ``Mul`` for the scales, ``Add`` for the bias. Its session
joins them when it loads the graph. Joined here, other passes can read them (:mod:`kniv.server.graphs.linear`), the
session joins those inside branches too, and an activation is quantised once for all products that read it.

The kernel is the one that the published graph runs, so not a bit of an answer changes.
"""

from __future__ import annotations

import onnx

from kniv.server.graphs.graph import CONTRIB, Graph, attribute
from kniv.server.graphs.linear import QUANTISED
from kniv.server.graphs.report import PassReport

NAME = "products"
_FLOAT = 1  # TensorProto.FLOAT


def apply(graph: Graph) -> PassReport:
    """Write every dynamically quantised product with a weight as one ``MatMulIntegerToFloat``."""
    once = _quantise_once(graph)
    found = sum(_join(graph, node) for node in list(graph.nodes) if node.op_type == "MatMulInteger")
    graph.prune()
    if not found:
        return PassReport(NAME, 0, "no product is quantised at run time")
    note = f"{found} products quantised at run time written as one node each"
    return PassReport(NAME, found, note + (f", {once} activations quantised once instead of again" if once else ""))


def _quantise_once(graph: Graph) -> int:
    coders = [node for node in graph.nodes if node.op_type == "DynamicQuantizeLinear"]
    first: dict[str, onnx.NodeProto] = {}
    again = [node for node in coders if first.setdefault(node.input[0], node) is not node]
    for node in again:
        for old, new in zip(node.output, first[node.input[0]].output, strict=True):
            graph.redirect(old, new)
    return len(again)


def _join(graph: Graph, product: onnx.NodeProto) -> bool:
    names = list(product.input) + [""] * (4 - len(product.input))
    codes, weight, zero, weight_zeros = names
    coder = graph.producer(codes)
    if coder is None or coder.op_type != "DynamicQuantizeLinear" or [codes, zero] != [coder.output[0], coder.output[2]]:
        return False
    if weight not in graph.weights or len(graph.weights[weight].dims) != 2:
        return False
    floats = _only_reader(graph, product, "Cast")
    scaled = None if floats is None or attribute(floats, "to") != _FLOAT else _only_reader(graph, floats, "Mul")
    if floats is None or scaled is None:
        return False
    scales = _weight_scales(graph, _other(scaled, floats.output[0]), coder.output[1])
    if scales is None or not _fits(graph, weight, scales) or not _known(graph, weight, weight_zeros):
        return False
    value = graph.value(weight_zeros) if weight_zeros else None
    zeros = "" if value is None or not value.any() else weight_zeros
    bias, last = _bias(graph, scaled, graph.weights[weight].dims[1])
    inputs = [codes, weight, coder.output[1], scales, zero, zeros, bias]
    graph.redirect(last, graph.add(QUANTISED, inputs, last + "_joined", domain=CONTRIB))
    return True


def _weight_scales(graph: Graph, name: str, scale: str) -> str | None:
    """The weight's scales, out of their product with the activation's scale."""
    node = graph.producer(name)
    if node is None or node.op_type != "Mul" or scale not in node.input:
        return None
    scales = _other(node, scale)
    return scales if scales in graph.weights else None


def _known(graph: Graph, weight: str, zeros: str) -> bool:
    return not zeros or (zeros in graph.weights and _fits(graph, weight, zeros))


def _fits(graph: Graph, weight: str, name: str) -> bool:
    """Whether numbers are one for the weight, or one a column."""
    dims, width = list(graph.weights[name].dims), graph.weights[weight].dims[1]
    return dims in ([], [1], [width])


def _bias(graph: Graph, scaled: onnx.NodeProto, width: int) -> tuple[str, str]:
    """A bias that is added to the product, or none, and the tensor that ends it."""
    added = _only_reader(graph, scaled, "Add")
    name = "" if added is None else _other(added, scaled.output[0])
    if added is None or name not in graph.weights or list(graph.weights[name].dims) != [width]:
        return "", scaled.output[0]
    return name, added.output[0]


def _other(node: onnx.NodeProto, name: str) -> str:
    return str(node.input[1] if node.input[0] == name else node.input[0])


def _only_reader(graph: Graph, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
    name = node.output[0]
    readers = graph.readers(name)
    alone = len(readers) == 1 and name not in graph.outputs and readers[0].op_type == kind
    return readers[0] if alone else None
