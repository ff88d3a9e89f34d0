"""Padding is no word's head, and every mask is a number that FP16 can hold."""

from __future__ import annotations

import numpy as np

from kniv.server.graphs.graph import Graph
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.trace import Trace, trace

NAME = "masks"
MASKED = -1e4
_FINITE = -65504.0  # the lowest number of FP16
_MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def apply(graph: Graph) -> PassReport:
    """Mask the padded columns of ``arc_scores`` where nothing does, and raise masks that FP16 would make infinite."""
    places = _raise_masks(graph)
    note = f"{places} masks made finite in FP16" if places else "masks are finite in FP16"
    if "arc_scores" not in graph.outputs or "attention_mask" not in graph.inputs:
        return PassReport(NAME, places, note + ", no arc_scores to mask")
    if _masked(graph, trace(graph, len(_MASK), _MASK.shape[1], _MASK)):
        return PassReport(NAME, places, note + ", arc_scores were masked")
    one = graph.weight("arc_mask_one", np.array(1, dtype=np.float32))
    low = graph.weight("arc_mask_low", np.array(MASKED, dtype=np.float32))
    real = graph.add("Cast", ["attention_mask"], "arc_mask_real", to=1)
    added = graph.add("Mul", [graph.add("Sub", [one, real], "arc_mask_padding"), low], "arc_mask_added")
    columns = graph.add("Unsqueeze", [added, graph.ints(1)], "arc_mask")
    masked = graph.add("Add", ["arc_scores", columns], "arc_scores_masked")
    maker = graph.producer(masked)
    assert maker is not None
    graph.redirect("arc_scores", masked, but=[maker])
    return PassReport(NAME, places + 1, note + ", padded columns of arc_scores masked")


def _masked(graph: Graph, sizes: Trace) -> bool:
    """Whether the last step of the arc scores is to shut out the padding."""
    node = graph.producer("arc_scores")
    if node is None or node.op_type not in ("Add", "Where"):
        return False
    padding = _MASK == 0
    for name in node.input:
        value = sizes.values.get(name)
        if value is None or value.size == 1:
            continue
        wide = np.broadcast_to(value, (*_MASK.shape, _MASK.shape[1]))
        shut = wide < MASKED + 1 if node.op_type == "Add" else wide == (name == node.input[0])
        if all(shut[row][:, padding[row]].all() for row in range(len(_MASK))):
            return True
    return False


def _raise_masks(graph: Graph) -> int:
    found = 0
    for name in list(graph.weights):
        value = graph.scalar(name) if graph.weights[name].data_type == 1 else None
        if value is None or value >= _FINITE:
            continue
        readers = graph.readers(name)
        if readers and all(node.op_type in ("Where", "Mul", "Add", "Max") for node in readers):
            shape = graph.value(name)
            assert shape is not None
            graph.redirect(name, graph.weight(name + "_finite", np.full_like(shape, MASKED)))
            found += 1
    return found
