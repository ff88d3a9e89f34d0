"""INT8 graphs: our recipes, whose answers do not depend on batch-mates, and the published family's.

The published recipe (``onnxruntime``'s dynamic quantisation) scales activations over the whole batch,
so what stands in the next row, padding included, moves a sentence's logits. Ours have ranges fixed beforehand
(``fixed``), or give every subword its own scale at run time (``rowwise``: slower, standard operators alone).
docs/performance.md has the sweep behind the choice, docs/adr/0002-eight-bit-weights.md that behind ``rowwise``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kniv.server.graphs.pipeline import optimise_file
from kniv.training.calibrate import Feed, ranges, sample_feeds

Recipe = Literal["fixed", "rowwise", "published"]

WEIGHT_LEVELS = 64  # 255 * 64 * 2 fits int16: CPUs without VNNI add pairs of products with saturation
ACTIVATION_LEVELS = 127
MIN_COLUMNS = 64  # narrower products (the heads' last layers) stay in float: they cost little and decide
MIN_ROWS = 256  # smaller embedding tables stay in float


def quantise(source: Path, target: Path, recipe: Recipe = "rowwise", feeds: Sequence[Feed] | None = None) -> None:
    """Write an INT8 copy of the FP32 graph ``source`` to ``target``.

    Args:
        recipe: ``fixed`` runs all graph passes (docs/performance.md) and gives activations ranges found on ``feeds``.
            ``rowwise`` quantises the constant side of matrix products to int8 with a scale a
            column, their other side to uint8 with a scale a row at run time, and embedding tables
            to int8 with a scale a row; LSTM weights are stored as FP16 and computed in FP32.
            ``published`` is ``quantize_dynamic`` (int8 a column, reduced range; one activation scale a batch).
        feeds: rows on which ``fixed`` finds ranges; those of the shipped text if None, tokenised as the tokenizer.json
            beside ``source`` says.
    """
    if recipe == "fixed":
        rows = sample_feeds(source.parent) if feeds is None else feeds
        optimise_file(source, target, lambda model, names: ranges(model, names, rows))
        return
    if recipe == "published":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(source, target, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        return
    model = onnx.load(source)
    _Rowwise(model.graph).run()
    onnx.checker.check_model(model)
    onnx.save(model, target)


class _Rowwise:
    """One pass over a graph; nodes are rewritten in place, in order, so the result stays sorted."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.quantised: dict[str, tuple[str, str]] = {}  # activation -> (uint8 tensor, its row scales)
        self.stored: dict[str, tuple[str, ...]] = {}  # float weight -> what replaces it

    def run(self) -> None:
        self._constant("q8_axis", np.array([-1], dtype=np.int64))
        self._constant("q8_least", np.array(1e-9, dtype=np.float32))
        self._constant("q8_step", np.array(1 / ACTIVATION_LEVELS, dtype=np.float32))
        self._constant("q8_one", np.array(1, dtype=np.float32))
        self._constant("q8_zero", np.array(128, dtype=np.uint8))
        for node in self.graph.node:
            rewrite = {"MatMul": self._product, "Gemm": self._gemm, "Gather": self._table, "LSTM": self._lstm}
            rewrite.get(node.op_type, self.nodes.append)(node)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.weights.items() if name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(kept)

    def _product(self, node: onnx.NodeProto) -> None:
        weight = self._float(node.input[1])
        if weight is None or weight.ndim != 2 or weight.shape[1] < MIN_COLUMNS:
            self.nodes.append(node)
            return
        self._integer_product(node.input[0], node.input[1], weight, node.output[0])

    def _gemm(self, node: onnx.NodeProto) -> None:
        """``x W^T + b``, the exporter's form of a linear layer on [B, D]."""
        weight = self._float(node.input[1])
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = given == {"alpha": 1.0, "beta": 1.0, "transB": 1}
        if weight is None or not plain or weight.shape[0] < MIN_COLUMNS:
            self.nodes.append(node)
            return
        product = node.output[0] + "_product"
        self._integer_product(node.input[0], node.input[1], weight.T, product)
        self._node("Add", [product, node.input[2]], node.output[0])

    def _integer_product(self, values: str, name: str, weight: NDArray[np.float32], output: str) -> None:
        """``values @ weight`` in integers: uint8 rows times int8 columns, then both scales."""
        if name not in self.stored:
            codes, scales = _codes(weight, axis=0, levels=WEIGHT_LEVELS)
            self._constant(name + "_q8", codes)
            self._constant(name + "_scale", scales[0])
            self.stored[name] = (name + "_q8", name + "_scale")
        rows, row_scales = self._rows(values)
        codes_name, scales_name = self.stored[name]
        self._node("MatMulInteger", [rows, codes_name, "q8_zero"], output + "_sums")
        self._node("Cast", [output + "_sums"], output + "_floats", to=TensorProto.FLOAT)
        self._node("Mul", [output + "_floats", row_scales], output + "_rows")
        self._node("Mul", [output + "_rows", scales_name], output)

    def _rows(self, values: str) -> tuple[str, str]:
        """Quantise an activation once, however many products read it."""
        if values not in self.quantised:
            steps = ("abs", "top", "safe", "scale", "unit", "q8")
            size, top, safe, scale, unit, codes = (f"{values}_{step}" for step in steps)
            self._node("Abs", [values], size)
            self._node("ReduceMax", [size, "q8_axis"], top, keepdims=1)
            self._node("Max", [top, "q8_least"], safe)
            self._node("Mul", [safe, "q8_step"], scale)
            self._node("Div", [values, scale], unit)
            self._node("QuantizeLinear", [unit, "q8_one", "q8_zero"], codes)
            self.quantised[values] = (codes, scale)
        return self.quantised[values]

    def _table(self, node: onnx.NodeProto) -> None:
        """An embedding: int8 rows, each with its scale."""
        table = self._float(node.input[0])
        if table is None or table.ndim != 2 or table.shape[0] < MIN_ROWS:
            self.nodes.append(node)
            return
        name, output = node.input[0], node.output[0]
        if name not in self.stored:
            codes, scales = _codes(table, axis=1, levels=127)
            self._constant(name + "_q8", codes)
            self._constant(name + "_scale", scales)
            self.stored[name] = (name + "_q8", name + "_scale")
        codes_name, scales_name = self.stored[name]
        self._node("Gather", [codes_name, node.input[1]], output + "_codes", axis=0)
        self._node("Gather", [scales_name, node.input[1]], output + "_scales", axis=0)
        self._node("Cast", [output + "_codes"], output + "_floats", to=TensorProto.FLOAT)
        self._node("Mul", [output + "_floats", output + "_scales"], output)

    def _lstm(self, node: onnx.NodeProto) -> None:
        """FP16 storage; ONNX Runtime folds the casts when it loads the graph."""
        for place in (1, 2):
            name = node.input[place]
            weight = self._float(name)
            if weight is None:
                continue
            if name not in self.stored:
                self._constant(name + "_fp16", weight.astype(np.float16))
                self._node("Cast", [name + "_fp16"], name + "_fp32", to=TensorProto.FLOAT)
                self.stored[name] = (name + "_fp32",)
            node.input[place] = self.stored[name][0]
        self.nodes.append(node)

    def _float(self, name: str) -> NDArray[np.float32] | None:
        tensor = self.weights.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return None
        values: NDArray[np.float32] = numpy_helper.to_array(tensor)
        return values

    def _constant(self, name: str, values: NDArray[np.generic]) -> None:
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: int) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))


def _codes(values: NDArray[np.float32], axis: int, levels: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 codes in [-levels, levels] and the scales (kept axis) that undo them."""
    top = np.abs(values).max(axis=axis, keepdims=True)
    scales = np.where(top > 0, top / levels, 1).astype(np.float32)
    return np.rint(values / scales).astype(np.int8), scales
