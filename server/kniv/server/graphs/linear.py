"""Linear layers, in float or quantised: what passes read and write without minding which.

A quantised layer is a ``com.microsoft.MatMulIntegerToFloat`` (see :mod:`kniv.server.graphs.products`): codes of eight
bits met by codes, one scale for the activation and one a column, or one alone, for the weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from kniv.server.graphs.graph import CONTRIB, Array, Graph

QUANTISED = "MatMulIntegerToFloat"
# Places of its inputs.
CODES, WEIGHT, SCALE, WEIGHT_SCALES, ZERO, WEIGHT_ZEROS, BIAS = range(7)


@dataclass(frozen=True, slots=True)
class Read:
    """What a layer reads.

    Attributes:
        values: the activation [..., K] in float.
        quantised: its codes, their scale and the code of zero; None for a float layer.
    """

    values: str
    quantised: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight [K, N].

    Attributes:
        values: floats, or codes of eight bits.
        scales: float32 [N], what a code of a column stands for; None for floats.
        zeros: [N], the code of zero by column; None for floats.
    """

    values: Array
    scales: Array | None = None
    zeros: Array | None = None

    def times(self, gain: float) -> Weight:
        """Multiplied by a number; codes stay what they are."""
        if self.scales is None:
            return Weight(self.values * np.float32(gain))
        return Weight(self.values, self.scales * np.float32(gain), self.zeros)

    def columns(self, order: Array) -> Weight:
        """Columns in another order, or some of them."""
        if self.scales is None or self.zeros is None:
            return Weight(self.values[:, order])
        return Weight(self.values[:, order], self.scales[order], self.zeros[order])

    def floats(self) -> Array:
        """Its numbers, float32 [K, N]."""
        if self.scales is None or self.zeros is None:
            return self.values
        found: Array = (self.values.astype(np.float32) - self.zeros.astype(np.float32)) * self.scales
        return found


@dataclass(frozen=True, slots=True)
class Linear:
    """A layer ``read x weight + bias``.

    Attributes:
        read: what it reads.
        node: its product; holds the weight.
        bias: name of the bias [N], None without one.
    """

    read: Read
    node: onnx.NodeProto
    bias: str | None


def linear(graph: Graph, name: str) -> Linear | None:
    """The linear layer that makes a tensor, None where something else does."""
    node, bias = graph.producer(name), None
    if node is not None and node.op_type == "Add":
        for place in (0, 1):
            if node.input[place] in graph.weights:
                bias, node = node.input[place], graph.producer(node.input[1 - place])
                break
    if node is None:
        return None
    if node.op_type == "MatMul" and node.input[1] in graph.weights:
        return Linear(Read(node.input[0]), node, bias)
    if node.op_type != QUANTISED or node.input[WEIGHT] not in graph.weights:
        return None
    coder = graph.producer(node.input[CODES])
    own = node.input[BIAS] if len(node.input) > BIAS else ""
    if coder is None or (own and bias is not None):
        return None
    quantised = (node.input[CODES], node.input[SCALE], node.input[ZERO])
    return Linear(Read(coder.input[0], quantised), node, bias or own or None)


def weight_of(graph: Graph, layer: Linear) -> Weight:
    """A layer's weight."""
    names = list(layer.node.input)
    if layer.read.quantised is None:
        return Weight(_value(graph, names[1]))
    codes, scales = _value(graph, names[WEIGHT]), _value(graph, names[WEIGHT_SCALES])
    zeros = np.zeros(1, codes.dtype)
    if len(names) > WEIGHT_ZEROS and names[WEIGHT_ZEROS]:
        zeros = _value(graph, names[WEIGHT_ZEROS])
    width = codes.shape[1]
    return Weight(codes, np.broadcast_to(scales.ravel(), width), np.broadcast_to(zeros.ravel(), width))


def bias_of(graph: Graph, layer: Linear, width: int) -> Array:
    """A layer's bias [N], zeros where it has none."""
    if layer.bias is None:
        return np.zeros(width, dtype=np.float32)
    return np.broadcast_to(_value(graph, layer.bias), width)


def write(graph: Graph, read: Read, weight: Weight, bias: Array | None, name: str) -> str:
    """Add a layer; returns its result [..., N].

    Args:
        name: what its tensors' names begin with.
    """
    if read.quantised is None or weight.scales is None or weight.zeros is None:
        product = graph.add("MatMul", [read.values, graph.weight(name + "_weight", weight.values)], name + "_product")
        if bias is None:
            return product
        return graph.add("Add", [product, graph.weight(name + "_bias", bias)], name + "_projected")
    codes, scale, zero = read.quantised
    zeros = graph.weight(name + "_zeros", weight.zeros) if weight.zeros.any() else ""
    added = "" if bias is None else graph.weight(name + "_bias", bias)
    stored = [graph.weight(name + "_weight", weight.values), scale, graph.weight(name + "_scales", weight.scales)]
    return graph.add(QUANTISED, [codes, *stored, zero, zeros, added], name + "_projected", domain=CONTRIB)


def side_by_side(graph: Graph, layers: Sequence[Linear], gains: Sequence[float], name: str) -> str:
    """Add one product that is several layers of one activation, each times a number; returns [..., sum of N].

    Quantised weights keep their codes and the activation keeps its: a column's scale takes the number.
    """
    weights = [weight_of(graph, layer).times(gain) for layer, gain in zip(layers, gains, strict=True)]
    biases = [
        bias_of(graph, layer, weight.values.shape[1]) * np.float32(gain)
        for layer, weight, gain in zip(layers, weights, gains, strict=True)
    ]
    return write(graph, layers[0].read, _beside(weights), np.concatenate(biases), name)


def _beside(weights: Sequence[Weight]) -> Weight:
    values = np.concatenate([weight.values for weight in weights], axis=1)
    scales = [weight.scales for weight in weights if weight.scales is not None]
    zeros = [weight.zeros for weight in weights if weight.zeros is not None]
    return Weight(values, np.concatenate(scales), np.concatenate(zeros)) if scales else Weight(values)


def _value(graph: Graph, name: str) -> Array:
    value = graph.value(name)
    assert value is not None
    return value
