"""Arc scores as two matrix products where the source has one ``Einsum`` of three operands.

ONNX Runtime's ``Einsum`` copies its operands and does not prepack the weight.
"""

from __future__ import annotations

import onnx

from kniv.server.graphs.graph import CONTRIB, Graph, attribute
from kniv.server.graphs.report import PassReport

NAME = "arcs"


def apply(graph: Graph) -> PassReport:
    """Rewrite biaffine products with one class; those with more are the relations'."""
    found = [node for node in graph.nodes if _biaffine(node) and _classes(graph, node) == 1]
    for node in found:
        weight = graph.value(node.input[1])
        assert weight is not None
        name = node.output[0]
        # No plain MatMul, which would be quantised, as Einsum never is: arc scores decide.
        turned = graph.weight(name + "_weight", weight[0].T)
        left = graph.add("FusedMatMul", [node.input[0], turned], name + "_left", domain=CONTRIB, transB=1)
        scores = graph.add("FusedMatMul", [left, node.input[2]], name + "_scores", domain=CONTRIB, transB=1)
        graph.redirect(name, graph.add("Unsqueeze", [scores, graph.ints(1)], name + "_products"))
    graph.prune()
    return PassReport(NAME, len(found), f"{len(found)} biaffine products" if found else "no Einsum of one class")


def _biaffine(node: onnx.NodeProto) -> bool:
    """Whether a node is dependent x weight x head, [B, S, i], [C, i, j], [B, S, j] to [B, C, S, S]."""
    return node.op_type == "Einsum" and _letters(attribute(node, "equation", b"").decode()) == "abc,dce,afe->adbf"


def _classes(graph: Graph, node: onnx.NodeProto) -> int:
    tensor = graph.weights.get(node.input[1])
    return 0 if tensor is None else int(tensor.dims[0])


def _letters(equation: str) -> str:
    """An equation with its letters in the order in which they come."""
    letters: dict[str, str] = {}
    for letter in filter(str.isalpha, equation):
        letters.setdefault(letter, chr(ord("a") + len(letters)))
    return "".join(letters.get(letter, letter) for letter in equation.replace(" ", ""))
