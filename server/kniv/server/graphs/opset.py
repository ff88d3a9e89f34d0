"""Older graphs raised to the operator set that the passes write, with layer norms as the one operator they are."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from kniv.server.graphs.graph import Graph, attribute, subgraphs
from kniv.server.graphs.report import PassReport

NAME = "opset"
OPSET = 18

# Operators whose newer versions mean the same for every older node: types were added, or optional attributes.
_SAME = {
    "Add",
    "Equal",
    "Identity",
    "If",
    "LessOrEqual",
    "Less",
    "Greater",
    "GreaterOrEqual",
    "Pow",
    "Reshape",
    "Shape",
}
_SAME |= {
    "Where",
    "ScatterElements",
    "Transpose",
    "Cast",
    "CastLike",
    "Mul",
    "Sub",
    "Div",
    "BatchNormalization",
    "PRelu",
}
_REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"}


def apply(graph: Graph) -> PassReport:
    """Write decomposed layer norms as ``LayerNormalization`` and raise the operator set to :data:`OPSET`."""
    start = graph.opset()
    if start >= OPSET:
        return PassReport(NAME, 0, f"opset {start} already")
    changed = {
        node.op_type
        for node in _all(graph.nodes)
        if not node.domain
        and onnx.defs.get_schema(node.op_type, start, "").since_version
        != onnx.defs.get_schema(node.op_type, OPSET, "").since_version
    }
    unknown = changed - _SAME - _REDUCTIONS - {"Split"}
    if unknown:
        return PassReport(NAME, 0, f"opset {start} kept: no rule to raise {', '.join(sorted(unknown))}")
    norms = _norms(graph)
    for node in _all(graph.nodes):
        axes = attribute(node, "axes")
        if node.op_type in _REDUCTIONS and axes is not None:
            _drop(node, "axes")
            node.input.append(graph.ints(*axes))
        elif node.op_type == "Split" and len(node.input) == 1:
            node.attribute.append(onnx.helper.make_attribute("num_outputs", len(node.output)))
    next(entry for entry in graph.model.opset_import if not entry.domain).version = OPSET
    graph.model.ir_version = max(graph.model.ir_version, 8)
    graph.touch()
    return PassReport(NAME, 1 + norms, f"opset {start} raised to {OPSET}, {norms} layer norms written as one node")


def _norms(graph: Graph) -> int:
    found = 0
    for node in list(graph.nodes):
        if node.op_type == "Div" and (matched := _norm(graph, node)) is not None:
            values, weight, bias, epsilon, last = matched
            made = graph.add("LayerNormalization", [values, weight, bias], last + "_norm", axis=-1, epsilon=epsilon)
            graph.redirect(last, made)
            found += 1
    graph.prune()
    return found


def _norm(graph: Graph, quotient: onnx.NodeProto) -> tuple[str, str, str, float, str] | None:
    """Input, weight, bias, epsilon and result of the layer norm that ends in ``quotient * weight + bias``."""
    centred, root = graph.producer(quotient.input[0]), graph.producer(quotient.input[1])
    shifted = _producer_of(graph, root, "Sqrt")
    variance = _producer_of(graph, shifted, "Add")
    squares = _producer_of(graph, variance, "ReduceMean")
    if centred is None or centred.op_type != "Sub" or shifted is None or variance is None or squares is None:
        return None
    mean = graph.producer(centred.input[1])
    epsilon = graph.scalar(shifted.input[1])
    plain = squares.op_type == "Pow" and squares.input[0] == centred.output[0] and graph.scalar(squares.input[1]) == 2
    if mean is None or mean.op_type != "ReduceMean" or epsilon is None or not plain:
        return None
    if mean.input[0] != centred.input[0] or any(attribute(node, "axes") != [-1] for node in (mean, variance)):
        return None
    scaled = _only_reader(graph, quotient, "Mul")
    moved = None if scaled is None else _only_reader(graph, scaled, "Add")
    if scaled is None or moved is None:
        return None
    weight, bias = (next((n for n in node.input if n in graph.weights), None) for node in (scaled, moved))
    if weight is None or bias is None or any(len(graph.weights[name].dims) != 1 for name in (weight, bias)):
        return None
    return mean.input[0], weight, bias, epsilon, moved.output[0]


def _producer_of(graph: Graph, node: onnx.NodeProto | None, kind: str) -> onnx.NodeProto | None:
    """The node behind the first input of ``node``, if ``node`` is of this kind."""
    return graph.producer(node.input[0]) if node is not None and node.op_type == kind else None


def _only_reader(graph: Graph, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
    readers = graph.readers(node.output[0])
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _drop(node: onnx.NodeProto, name: str) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _all(nodes: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all(list(graph.node))
