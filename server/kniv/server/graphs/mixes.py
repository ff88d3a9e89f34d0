"""The heads' weighted sums of all hidden states, each as one product over the states side by side.

L states mixed for a head are 2 L - 1 element-wise passes over [B, S, H]; as a product [1, L] x [L, B S H] they are read
once and written once. Side by side they are laid once, for all heads.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx

from kniv.server.graphs.graph import Graph
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.trace import Trace, trace

NAME = "mixes"
_FEWEST = 3  # states from which a sum is worth a product


def apply(graph: Graph) -> PassReport:
    """Rewrite weighted sums of the same tensors [B, S, H], where there are several."""
    sizes = trace(graph, 2, 5)
    groups: dict[tuple[str, ...], list[tuple[str, Counter[str]]]] = {}
    for node in graph.nodes:
        name = node.output[0]
        if node.op_type not in ("Add", "Mul") or _inside(graph, sizes, name):
            continue
        total = _terms(graph, sizes, name, top=True)
        if len(total) >= _FEWEST and all(len(sizes.shape(part) or ()) == 3 for part in total):
            groups.setdefault(tuple(sorted(total)), []).append((name, total))
    shared = {states: sums for states, sums in groups.items() if len(sums) > 1}
    for states, sums in shared.items():
        _write(graph, states, sums)
    graph.prune()
    places = sum(map(len, shared.values()))
    return PassReport(
        NAME, places, f"{places} weighted sums written as products" if places else "no sums of shared states"
    )


def _write(graph: Graph, states: tuple[str, ...], sums: list[tuple[str, Counter[str]]]) -> None:
    stack = graph.add("Concat", states, "states", axis=0)
    flat = graph.add("Reshape", [stack, graph.ints(len(states), -1)], "states_flat")
    shape = graph.add("Shape", [states[0]], "state_shape")
    for name, total in sums:
        weights = np.array([[total[state] for state in states]], dtype=np.float32)
        mixed = graph.add("MatMul", [graph.weight(name + "_weights", weights), flat], name + "_flat")
        graph.redirect(name, graph.add("Reshape", [mixed, shape], name + "_mixed"))


def _terms(graph: Graph, sizes: Trace, name: str, *, top: bool = False) -> Counter[str]:
    """The tensors that a tensor is a weighted sum of, with their weights."""
    node = graph.producer(name)
    if node is None or (not top and not _inside(graph, sizes, name)):
        return Counter({name: 1.0})
    if node.op_type == "Add":
        if any(sizes.shape(part) != sizes.shape(name) for part in node.input):
            return Counter({name: 1.0})
        found: Counter[str] = Counter()
        for part in node.input:
            for state, weight in _terms(graph, sizes, part).items():
                found[state] += weight
        return found
    scaled = _scaled(graph, sizes, node)
    if scaled is None:
        return Counter({name: 1.0})
    part, factor = scaled
    return Counter({state: weight * factor for state, weight in _terms(graph, sizes, part).items()})


def _inside(graph: Graph, sizes: Trace, name: str) -> bool:
    """Whether a tensor is a step of one sum and nothing else."""
    node, readers = graph.producer(name), graph.readers(name)
    if node is None or node.op_type not in ("Add", "Mul") or len(readers) != 1 or name in graph.outputs:
        return False
    if node.op_type == "Mul" and _scaled(graph, sizes, node) is None:
        return False
    reader = readers[0]
    return reader.op_type == "Add" or (reader.op_type == "Mul" and _scaled(graph, sizes, reader) is not None)


def _scaled(graph: Graph, sizes: Trace, node: onnx.NodeProto) -> tuple[str, float] | None:
    """The tensor that a weight of one number multiplies, and that number; one that sizes decide is no weight."""
    for place in (0, 1):
        factor = graph.scalar(node.input[place])
        if factor is not None and node.input[1 - place] not in sizes.values:
            return node.input[1 - place], factor
    return None
