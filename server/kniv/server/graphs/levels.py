"""Weights of a file made for CPUs with VNNI, halved where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx

from kniv.server.graphs.graph import Graph, subgraphs
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.vnni import SAFE

NAME = "levels"
# Of the operators that hold a weight and its scale side by side: the places of both among the inputs.
_PLACES = {
    "MatMulIntegerToFloat": ((1, 3),),
    "DynamicQuantizeMatMul": ((1, 2),),
    "DynamicQuantizeLSTM": ((1, 8), (2, 10)),
}


def apply(graph: Graph) -> PassReport:
    """Bring int8 weights of more than 64 levels down to that, their scales doubled: half a bit is lost, not the answer.

    The published recipe has such weights from the start (``reduce_range``); ours does on the CPUs that need them.
    """
    pairs = dict.fromkeys(pair for node in _all(graph.nodes) for pair in _pairs(node))
    places = sum(_halve(graph, weight, scale) for weight, scale in pairs)
    if not places:
        return PassReport(NAME, 0, f"no weight has more than {SAFE} levels")
    return PassReport(NAME, places, f"{places} weights brought down to {SAFE} levels: this CPU has no VNNI")


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for inner in subgraphs(node):
            yield from _all(inner.node)


def _pairs(node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    for weight, scale in _PLACES.get(node.op_type, ()):
        yield node.input[weight], node.input[scale]


def _halve(graph: Graph, weight: str, scale: str) -> bool:
    codes, scales = graph.value(weight), graph.value(scale)
    if codes is None or scales is None or codes.dtype != np.int8 or np.abs(codes.astype(np.int16)).max() <= SAFE:
        return False
    graph.store(weight, np.rint(codes / 2).astype(np.int8))
    graph.store(scale, scales * 2)
    return True
