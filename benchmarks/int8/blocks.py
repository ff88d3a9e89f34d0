"""Eight-bit weights with a scale a block of 32 to 128 rows of a column (``com.microsoft.MatMulNBits``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kniv.server.graphs.graph import CONTRIB, Graph, attribute

_MIN_COLUMNS = 64  # as in the other recipes
_INTEGER = 4  # accuracy level: activations are rounded to int8 too, a scale a block, and multiplied in integers


def quantise_blocks(graph: Graph, size: int) -> int:
    """Rewrite products with constant weights; returns how many."""
    places = 0
    for node in list(graph.nodes):
        weight = graph.value(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
        if weight is None or weight.ndim != 2:
            continue
        if node.op_type == "Gemm" and attribute(node, "transB", 0):
            weight = weight.T
        inner, columns = weight.shape
        if columns < _MIN_COLUMNS:
            continue
        codes, scales = _blocks(weight, size)
        name = node.output[0]
        given = [node.input[0], graph.weight(name + "_codes", codes), graph.weight(name + "_scales", scales)]
        made = graph.add(
            "MatMulNBits",
            given,
            name + "_blocks",
            domain=CONTRIB,
            K=inner,
            N=columns,
            bits=8,
            block_size=size,
            accuracy_level=_INTEGER,
        )
        if node.op_type == "Gemm":
            made = graph.add("Add", [made, node.input[2]], name + "_biased")
        graph.redirect(name, made)
        places += 1
    graph.prune()
    return places


def _blocks(weight: NDArray[np.float32], size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes [N, K / size, size] around 128, and scales [N * K / size]."""
    inner, columns = weight.shape
    padded = np.zeros((columns, -(-inner // size) * size), dtype=np.float32)
    padded[:, :inner] = weight.T
    blocks = padded.reshape(columns, -1, size)
    top = np.abs(blocks).max(-1)
    scales = np.where(top > 0, top / 127, 1).astype(np.float32)
    return (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8), scales.ravel()
