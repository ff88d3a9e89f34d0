"""Following a tensor back through operators that only move its values about or scale them all alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from kniv.server.graphs.graph import Array, Graph, attribute
from kniv.server.graphs.trace import Trace

_MOVES = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Tile", "Identity"}


@dataclass(frozen=True, slots=True)
class Moved:
    """A tensor as another one, moved and scaled.

    Attributes:
        root: the tensor that it is made of.
        gain: what every value was multiplied by.
        places: for each value its flat place in ``root``, in the shape of the moved tensor.
    """

    root: str
    gain: float
    places: Array


def moved(graph: Graph, sizes: Trace, name: str) -> Moved | None:
    """What ``name`` is made of; None where a shape on the way is not known."""
    steps: list[onnx.NodeProto] = []
    gain = 1.0
    while (node := graph.producer(name)) is not None:
        if node.op_type in _MOVES or (node.op_type == "Cast" and _same_type(sizes, node)):
            steps.append(node)
            name = node.input[0]
            continue
        factor = _factor(node, sizes)
        if factor is None:
            break
        name, by = factor
        gain *= by
    shape = sizes.shape(name)
    if shape is None:
        return None
    places: Array = np.arange(int(np.prod(shape))).reshape(shape)
    for step in reversed(steps):
        target = sizes.shape(step.output[0])
        if target is None:
            return None
        places = _move(step, places, target, sizes)
    return Moved(name, gain, places)


def _move(node: onnx.NodeProto, places: Array, target: tuple[int, ...], sizes: Trace) -> Array:
    if node.op_type == "Transpose":
        return places.transpose(attribute(node, "perm", list(reversed(range(places.ndim)))))
    if node.op_type == "Expand":
        return np.broadcast_to(places, target)
    if node.op_type == "Tile":
        return np.tile(places, sizes.values[node.input[1]].tolist())
    return places.reshape(target)


def _same_type(sizes: Trace, node: onnx.NodeProto) -> bool:
    kind = sizes.kinds.get(node.input[0])
    return kind is not None and kind[0] == attribute(node, "to")


def _factor(node: onnx.NodeProto, sizes: Trace) -> tuple[str, float] | None:
    """The scaled tensor and its factor, of a product or quotient with one number that is the same at all sizes."""
    if node.op_type == "Div" and (by := sizes.constant(node.input[1])) is not None:
        return node.input[0], 1 / by
    if node.op_type == "Mul":
        for place in (0, 1):
            if (by := sizes.constant(node.input[place])) is not None and node.input[1 - place] not in sizes.values:
                return node.input[1 - place], by
    return None
