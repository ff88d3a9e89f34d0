"""Weights of eight bits that every CPU multiplies rightly.

x86 CPUs without VNNI multiply uint8 activations by int8 weights two rows of the weight at a time and add both products
in 16 bits, where what does not fit is cut off (``vpmaddubsw``), without a word. Two neighbouring codes of one sign
whose sizes add up to at most 128 fit whatever the activations are, as 255 x 128 is below 2^15; codes of two signs
always do. Weights that keep to this give the same answers on all CPUs, and lose less than half a bit: it is the few
largest pairs of a column that decide, not the largest code twice (``reduce_range``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from kniv.server.graphs.graph import Array, Graph, subgraphs
from kniv.server.graphs.report import PassReport

NAME = "saturation"
LIMIT = 128  # of the sizes of two neighbouring codes of one sign
LEVELS = 127

# Places of a weight [..., K, N], its scale and its zero point among the inputs of the operators that hold all three.
_PLACES = {
    "MatMulIntegerToFloat": ((1, 3, 5),),
    "DynamicQuantizeMatMul": ((1, 2, 3),),
    "DynamicQuantizeLSTM": ((1, 8, 9), (2, 10, 11)),
}

Floats = NDArray[np.float32]


def apply(graph: Graph) -> PassReport:
    """Scale down the columns of int8 weights in which a pair of codes would not fit."""
    done: dict[tuple[str, str, str], tuple[str, str, str] | None] = {}
    for node in _all(graph.nodes):
        for places in _PLACES.get(node.op_type, ()):
            weight, scale, zero = (node.input[place] if place < len(node.input) else "" for place in places)
            names = weight, scale, zero
            if names not in done:
                done[names] = _fitted(graph, *names)
            if (found := done[names]) is not None:
                for place, name in zip(places, found, strict=True):
                    if name:
                        node.input[place] = name
    graph.touch()
    count = sum(found is not None for found in done.values())
    note = f"{count} weights scaled so that no pair of products overflows" if count else "no pair of products overflows"
    return PassReport(NAME, count, note)


def steps(values: Floats, axis: int) -> Floats:
    """Scales, ``axis`` kept with one place, by which values are rounded to codes of which all pairs along it fit.

    Two numbers that add up to 127 at most add up to 128 at most once they are rounded.
    """
    tops = _tops(values, axis)
    return np.where(tops > 0, tops / LEVELS, 1).astype(np.float32)


def _tops(values: Array, axis: int) -> Array:
    """The largest pair along an axis: the sum of two of one sign, the larger of two signs."""
    rows = np.moveaxis(values, axis, 0)
    if len(rows) % 2:
        rows = np.concatenate([rows, np.zeros_like(rows[:1])])
    one, other = rows[::2], rows[1::2]
    largest = np.maximum(np.abs(one + other), np.maximum(np.abs(one), np.abs(other))).max(0)
    return np.expand_dims(largest, axis)


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for inner in subgraphs(node):
            yield from _all(inner.node)


def _fitted(graph: Graph, weight: str, scale: str, zero: str) -> tuple[str, str, str] | None:
    """A weight, its scale a column and its zero points, rounded anew; None where nothing is to be done."""
    codes, scales = graph.value(weight), graph.value(scale)
    if codes is None or scales is None or codes.dtype != np.int8:
        return None
    wide = codes.astype(np.int16)
    if _tops(wide, -2).max() <= LIMIT:  # of the codes as they are: zero points come in later
        return None
    zeros = np.zeros(1, np.int8) if not zero else graph.value(zero)
    if zeros is None:
        return None
    shifted = wide - _by_column(zeros, wide.ndim).astype(np.int16)
    tops = _tops(shifted, -2)
    factors = np.where(tops > (LEVELS if zeros.any() else LIMIT), np.maximum(tops / LEVELS, 1), 1).astype(np.float32)
    columns = factors.squeeze(-2)
    stored = graph.weight(weight + "_fitted", np.rint(shifted / factors).astype(np.int8))
    scales = _by_column(scales, wide.ndim).squeeze(-2) * columns if scales.ndim else scales * columns
    even = zero and graph.weight(zero + "_fitted", np.zeros(columns.shape, np.int8))
    return stored, graph.weight(scale + "_fitted", scales.astype(np.float32)), even


def _by_column(values: Array, rank: int) -> Array:
    """Numbers of a weight [..., K, N], one for all, one a leading place or one a column, to be broadcast over it."""
    if values.size == 1:
        return values.reshape((1,) * rank)
    return values[..., None, :] if values.ndim == rank - 1 else values[..., None, None]
