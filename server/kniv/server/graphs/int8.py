"""Eight-bit products with ranges fixed beforehand: as fast as dynamic ones, and blind to batch-mates.

Dynamic quantisation scales an activation by the largest value of the whole batch, so a sentence's answer moves with its
company. Here every activation has one range, found on sample text and written into the graph: uint8 with one scale a
tensor, met by int8 weights with a scale a column (``com.microsoft.MatMulIntegerToFloat``), which suit every CPU:
see :mod:`kniv.server.graphs.saturation`.

Channels of very different sizes are evened out first, by a division whose inverse stands in the weights: see
:mod:`kniv.server.graphs.ranges`.

ONNX Runtime's eight-bit LSTM knows dynamic ranges alone. They are pinned: two further input columns hold the ends of
the fixed range, and two further hidden units, whose biases drive their cells up and down by one a step, outgrow every
other unit at every step: a cell gains less than one a step, so |h| <= tanh(steps).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kniv.server.graphs.divide import divided
from kniv.server.graphs.graph import CONTRIB, Array, Graph, attribute
from kniv.server.graphs.ranges import Floats, Range, divisors
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.saturation import LEVELS, steps

NAME = "int8"
MIN_COLUMNS = 64  # narrower products (the heads' last layers) stay in float: they cost little and decide
MIN_ROWS = 256  # smaller embedding tables stay in float
_DRIVEN = 20.0  # a bias that opens a gate for good


def observed(graph: Graph) -> tuple[str, ...]:
    """Activations whose ranges :func:`quantise` needs."""
    products = [node.input[0] for node in graph.nodes if _weight(graph, node) is not None]
    layers = [node.input[0] for node in graph.nodes if node.op_type == "LSTM" and _packable(graph, node)]
    return tuple(dict.fromkeys(products + layers))


def quantise(graph: Graph, ranges: Mapping[str, Range], *, smooth: bool = True) -> PassReport:
    """Rewrite products, embedding tables and LSTMs.

    Args:
        graph: the graph, before its heads are put into branches.
        ranges: what the activations that :func:`observed` names were seen to be; one that is absent stays in float.
        smooth: even out channels of very different sizes.
    """
    writer = _Writer(graph, ranges, smooth)
    places = 0
    for node in list(graph.nodes):
        weight = _weight(graph, node)
        if weight is not None and node.input[0] in ranges:
            writer.product(node, weight)
        elif node.op_type == "LSTM" and node.input[0] in ranges and _packable(graph, node):
            writer.lstm(node)
        elif node.op_type == "Gather" and _is_table(graph, node):
            writer.table(node)
        else:
            continue
        places += 1
    graph.prune()
    return PassReport(NAME, places, f"{places} products, tables and LSTMs in eight bits")


def _weight(graph: Graph, node: onnx.NodeProto) -> Floats | None:
    """The weight [K, N] of a product that is worth quantising."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in graph.weights:
        return None
    dims = graph.weights[node.input[1]].dims
    turned = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
    if len(dims) != 2 or dims[0 if turned else 1] < MIN_COLUMNS:
        return None
    scaled = any(attribute(node, name, 1.0) != 1 for name in ("alpha", "beta"))
    if node.op_type == "Gemm" and (scaled or attribute(node, "transA", 0)):
        return None
    value = graph.value(node.input[1])
    return None if value is None else (value.T if turned else value)


def _is_table(graph: Graph, node: onnx.NodeProto) -> bool:
    tensor = graph.weights.get(node.input[0])
    whole = tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    return whole and tensor is not None and tensor.dims[0] >= MIN_ROWS and attribute(node, "axis", 0) == 0


def _packable(graph: Graph, node: onnx.NodeProto) -> bool:
    plain = attribute(node, "direction", b"forward") == b"bidirectional"
    plain = plain and not any(attribute(node, name) for name in ("activations", "clip", "input_forget", "layout"))
    plain = plain and all(_is_zero(graph, name) for name in node.input[5:])  # where it begins, and peepholes
    return plain and all(name in graph.weights for name in node.input[1:4]) and _back(graph, node) is not None


def _is_zero(graph: Graph, name: str) -> bool:
    """Whether an input is absent, or zero whatever its size."""
    value, maker = graph.value(name), graph.producer(name)
    if value is None and maker is not None and maker.op_type == "ConstantOfShape":
        filled = attribute(maker, "value")
        value = np.zeros(1) if filled is None else numpy_helper.to_array(filled)
    return not name or (value is not None and not value.any())


@dataclass(frozen=True, slots=True)
class _Back:
    """The product that reads an LSTM's states, both directions side by side."""

    product: onnx.NodeProto
    weight: str


def _back(graph: Graph, node: onnx.NodeProto) -> _Back | None:
    name = node.output[0]
    while True:
        readers = [reader for reader in graph.readers(name) if reader.op_type != "Shape"]
        if len(readers) != 1:
            return None
        if readers[0].op_type == "MatMul" and readers[0].input[1] in graph.weights:
            return _Back(readers[0], readers[0].input[1])
        if readers[0].op_type not in ("Transpose", "Reshape"):
            return None
        name = readers[0].output[0]


class _Writer:
    def __init__(self, graph: Graph, ranges: Mapping[str, Range], smooth: bool) -> None:
        self.graph, self.ranges = graph, ranges
        self.quantised: dict[str, tuple[str, str, str]] = {}
        self.divisors: dict[str, Floats] = {}
        self.even: set[str] = set()  # activations that come divided
        if smooth:
            self._smooth()

    def _smooth(self) -> None:
        """Find the divisors of each activation, over all products that read it.

        States of LSTMs are left out: they lie between -1 and 1, and pins stand among them later.
        """
        read: dict[str, list[Floats]] = {}
        layers = [node for node in self.graph.nodes if node.op_type == "LSTM"]
        states = {back.product.input[0] for node in layers if (back := _back(self.graph, node)) is not None}
        for node in self.graph.nodes:
            weight = _weight(self.graph, node)
            if weight is not None and node.input[0] in self.ranges and node.input[0] not in states:
                read.setdefault(node.input[0], []).append(weight)
        for name, weights in read.items():
            found = divisors(self.ranges[name], np.concatenate(weights, axis=1))
            if found is not None:
                self.divisors[name] = found
        awaited = {id(node) for node in self.graph.nodes if _weight(self.graph, node) is not None}
        for name, found in self.divisors.items():
            if divided(self.graph, name, found, lambda node: id(node) in awaited):
                self.even.add(name)

    def product(self, node: onnx.NodeProto, weight: Floats) -> None:
        graph, name = self.graph, node.output[0]
        if node.input[0] in self.divisors:
            weight = weight * self.divisors[node.input[0]][:, None]
        codes, scales = _codes(weight, steps(weight, axis=0))
        rows, scale, zero = self._activation(node.input[0])
        bias, last = "", name
        if node.op_type == "Gemm" and len(node.input) > 2:
            bias = node.input[2]
        elif node.op_type == "MatMul" and (added := self._bias(node)) is not None:
            bias, last = added
        inputs = [rows, graph.weight(name + "_codes", codes), scale, graph.weight(name + "_scales", scales[0]), zero]
        made = graph.add("MatMulIntegerToFloat", [*inputs, "", bias], last + "_int8", domain=CONTRIB)
        graph.redirect(last, made)

    def _bias(self, node: onnx.NodeProto) -> tuple[str, str] | None:
        columns = self.graph.weights[node.input[1]].dims[1:]
        readers = self.graph.readers(node.output[0])
        if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in self.graph.outputs:
            return None
        for name in readers[0].input:
            tensor = self.graph.weights.get(name)
            if tensor is not None and tensor.dims == columns:
                return name, readers[0].output[0]
        return None

    def _activation(self, name: str) -> tuple[str, str, str]:
        """Codes, scale and zero point, made once however many products read them."""
        if name not in self.quantised:
            seen, values = self.ranges[name], name
            if (found := self.divisors.get(name)) is not None:
                seen = seen.over(found)
                if name not in self.even:
                    factors = self.graph.weight(name + "_factors", 1 / found)
                    values = self.graph.add("Mul", [name, factors], name + "_even")
            low, high = seen.ends()
            step = (high - low) / 255
            scale = self.graph.weight(name + "_scale", np.array(step, dtype=np.float32))
            zero = self.graph.weight(name + "_zero", np.array(np.clip(np.rint(-low / step), 0, 255), dtype=np.uint8))
            codes = self.graph.add("QuantizeLinear", [values, scale, zero], name + "_u8")
            self.quantised[name] = (codes, scale, zero)
        return self.quantised[name]

    def table(self, node: onnx.NodeProto) -> None:
        graph, name = self.graph, node.output[0]
        value = graph.value(node.input[0])
        assert value is not None
        top = np.abs(value).max(axis=1, keepdims=True)  # it is looked up, and multiplied by nothing
        codes, scales = _codes(value, np.where(top > 0, top / LEVELS, 1).astype(np.float32))
        index = graph.producer(node.input[1])
        listed = None if index is None or index.op_type != "Slice" else graph.weights.get(index.input[0])
        by_row = listed is not None and len(listed.dims) == 1  # a vector picks rows: each has a scale of its own
        parts: dict[str, Array] = {"codes": codes, "scales": scales[:, 0] if by_row else scales}
        rows, scale = (
            graph.add("Gather", [graph.weight(f"{node.input[0]}_{part}", stored), node.input[1]], f"{name}_{part}")
            for part, stored in parts.items()
        )
        if by_row:
            graph.redirect(name, graph.add("DequantizeLinear", [rows, scale], name + "_int8", axis=0))
        else:
            floats = graph.add("Cast", [rows], name + "_floats", to=TensorProto.FLOAT)
            graph.redirect(name, graph.add("Mul", [floats, scale], name + "_int8"))

    def lstm(self, node: onnx.NodeProto) -> None:
        graph, name = self.graph, node.output[0]
        low, high = self.ranges[node.input[0]].ends()
        hidden = attribute(node, "hidden_size")
        back = _back(graph, node)
        assert back is not None
        inputs, recurrent, bias = (self._value(place) for place in node.input[1:4])
        inputs, recurrent, bias = _with_pins(inputs, recurrent, bias, hidden)
        packed = [_packed(part) for part in (inputs, recurrent)]
        ends = [
            graph.weight(f"{name}_{side}", np.array(end, np.float32)) for side, end in (("low", low), ("high", high))
        ]
        clipped = graph.add("Clip", [node.input[0], *ends], name + "_clipped")
        shape = graph.add("Shape", [node.input[0]], name + "_steps_rows", start=0, end=2)
        wide = graph.add("Concat", [shape, graph.ints(2)], name + "_pin_shape", axis=0)
        pins = graph.weight(name + "_pins", np.array([[[low, high]]], dtype=np.float32))
        pinned = graph.add(
            "Concat", [clipped, graph.add("Expand", [pins, wide], name + "_pin")], name + "_pinned", axis=2
        )
        stored = [graph.weight(f"{name}_{part}", codes) for part, (codes, _) in zip("WR", packed, strict=True)]
        scales = [graph.weight(f"{name}_{part}_scale", scale) for part, (_, scale) in zip("WR", packed, strict=True)]
        zeros = graph.weight(name + "_zeros", np.zeros((2, 4 * (hidden + 2)), dtype=np.int8))
        lengths = node.input[4] if len(node.input) > 4 else ""
        given = [pinned, stored[0], stored[1], graph.weight(name + "_B", bias), lengths, "", "", ""]
        given += [scales[0], zeros, scales[1], zeros]
        made = graph.add(
            "DynamicQuantizeLSTM",
            given,
            name + "_int8",
            domain=CONTRIB,
            direction="bidirectional",
            hidden_size=hidden + 2,
        )
        graph.redirect(name, made)
        self._widen(back, hidden)

    def _widen(self, back: _Back, hidden: int) -> None:
        """Rows of zeros for the pins among the rows that read the states."""
        value = self._value(back.weight)
        empty = np.zeros((2, value.shape[1]), dtype=np.float32)
        wide = np.concatenate([value[:hidden], empty, value[hidden:], empty])
        back.product.input[1] = self.graph.weight(back.weight + "_wide", wide)
        self.graph.touch()

    def _value(self, name: str) -> Array:
        value = self.graph.value(name)
        assert value is not None
        return value


def _with_pins(inputs: Array, recurrent: Array, bias: Array, hidden: int) -> tuple[Array, Array, Array]:
    """Weights [2, 4 h, D], [2, 4 h, h] and biases [2, 8 h] with two more inputs and two more units."""
    size, depth = hidden + 2, inputs.shape[2]
    wide_inputs = np.zeros((2, 4, size, depth + 2), dtype=np.float32)
    wide_inputs[:, :, :hidden, :depth] = inputs.reshape(2, 4, hidden, depth)
    wide_recurrent = np.zeros((2, 4, size, size), dtype=np.float32)
    wide_recurrent[:, :, :hidden, :hidden] = recurrent.reshape(2, 4, hidden, hidden)
    wide_bias = np.zeros((2, 8, size), dtype=np.float32)
    wide_bias[:, :, :hidden] = bias.reshape(2, 8, hidden)
    wide_bias[:, :3, hidden:] = _DRIVEN  # input, output and forget gates open
    wide_bias[:, 3, hidden:] = [-_DRIVEN, _DRIVEN]  # the cells count steps, down and up
    return wide_inputs.reshape(2, 4 * size, -1), wide_recurrent.reshape(2, 4 * size, size), wide_bias.reshape(2, -1)


def _packed(weight: Array) -> tuple[Array, Floats]:
    """int8 codes [2, D, 4 h] and scales [2, 4 h]."""
    codes, scales = _codes(weight, steps(weight, axis=2))
    return codes.transpose(0, 2, 1), scales[..., 0]


def _codes(values: Array, scales: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric codes in [-127, 127], and the scales that undo them."""
    return np.rint(values / scales).astype(np.int8), scales


def tensor_info(name: str) -> onnx.ValueInfoProto:
    """A float output of whatever shape, for looking at an activation."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
