"""Dividing an activation's channels for nothing: where what makes it has a weight a channel, that is divided instead.

A layer norm's weight and bias are such, if nobody else reads what it makes. So are the columns of an attention layer's
value projection: mixing subwords leaves channels alone, so that its result is divided with the values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from kniv.server.graphs.graph import Array, Graph, attribute
from kniv.server.graphs.ranges import Floats

Reads = Callable[[onnx.NodeProto], bool]


def divided(graph: Graph, name: str, divisors: Floats, awaited: Reads) -> bool:
    """Let an activation [..., K] come out divided.

    Args:
        name: the activation.
        divisors: by channel, [K].
        awaited: whether a reader of it wants it divided.

    Returns:
        Whether it does; otherwise nothing was changed.
    """
    if name in graph.outputs or not all(map(awaited, graph.readers(name))):
        return False
    node = graph.producer(name)
    if node is not None and node.op_type == "LayerNormalization":
        return _norm(graph, node, divisors)
    return _values(graph, name, divisors)


def _norm(graph: Graph, node: onnx.NodeProto, divisors: Floats) -> bool:
    places = range(1, len(node.input))
    found = {place: value for place in places if (value := graph.value(node.input[place])) is not None}
    if attribute(node, "axis", -1) != -1 or len(found) < len(places):
        return False
    for place, value in found.items():
        node.input[place] = graph.weight(node.input[place] + "_divided", np.asarray(value / divisors))
    graph.touch()
    return True


def _values(graph: Graph, context: str, divisors: Floats) -> bool:
    """Divide the value projection behind an attention layer's result, in the layout that the pass ``attention`` writes.

    Queries, keys and values [B, S, 3 H] become [3 heads, B, S, d], and the mixed values [heads, B, S, d] the result.
    """
    heads_last = _only(graph, context, "Reshape")
    mixed = None if heads_last is None else _only(graph, heads_last.input[0], "Transpose", perm=[1, 2, 0, 3])
    product = None if mixed is None else _only(graph, mixed.input[0], "MatMul")
    split = None if product is None else _only(graph, product.input[1], "Split", axis=0)
    outside = None if split is None else _only(graph, split.input[0], "Transpose", perm=[2, 0, 1, 3])
    heads = None if outside is None else _only(graph, outside.input[0], "Reshape")
    added = None if heads is None else _only(graph, heads.input[0], "Add")
    if product is None or split is None or added is None or list(split.output[2:]) != [product.input[1]]:
        return False
    projection = _only(graph, added.input[0], "MatMul")
    weight = None if projection is None else graph.value(projection.input[1])
    bias = graph.value(added.input[1])
    if projection is None or not _three(weight, bias, len(divisors)):
        return False
    by = np.concatenate([np.ones(2 * len(divisors), np.float32), divisors])
    projection.input[1] = graph.weight(projection.input[1] + "_divided", np.asarray(weight / by))
    added.input[1] = graph.weight(added.input[1] + "_divided", np.asarray(bias / by))
    graph.touch()
    return True


def _only(graph: Graph, name: str, kind: str, **wanted: object) -> onnx.NodeProto | None:
    """The node that makes a tensor, if it is of this kind and its result is read once."""
    node = graph.producer(name)
    if node is None or node.op_type != kind or len(graph.readers(name)) != 1 or name in graph.outputs:
        return None
    return node if all(attribute(node, key) == value for key, value in wanted.items()) else None


def _three(weight: Array | None, bias: Array | None, width: int) -> bool:
    return weight is not None and bias is not None and weight.shape[1:] == bias.shape == (3 * width,)
