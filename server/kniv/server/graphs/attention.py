"""Attention layers written the short way: one product for Q, K and V, and positions shifted instead of gathered.

For disentangled attention (He et al. 2021, DeBERTa, eq. 4) a query meets the 2 S - 1 relative positions that S
subwords can have, not the table's 512, and no row of the batch has a copy of its own. The score of query i and key j
stands at column S - 1 - i + j of row i, so the rows read one after another with one column less are the scores, shifted
into place (the relative shift of Dai et al. 2019, Transformer-XL, appendix B, here for both directions).
Scores are [heads, B, S, S]: with the heads outside, each head's product with the positions is one for the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kniv.server.graphs.attention_mask import UnlikeError
from kniv.server.graphs.attention_match import Layer, Matcher, Positions
from kniv.server.graphs.contract import LONGEST
from kniv.server.graphs.graph import CONTRIB, Array, Graph
from kniv.server.graphs.linear import side_by_side
from kniv.server.graphs.report import PassReport

NAME = "attention"
MASKED = -1e4  # finite in FP16, and e to it is 0 in FP32
ALIKE = -1e30  # what is added to it in FP32 is lost, so that all scores are alike


def apply(graph: Graph) -> PassReport:
    """Rewrite every attention layer over subwords. Positions are tabulated for up to 512 subwords."""
    if "attention_mask" not in graph.inputs:
        return PassReport(NAME, 0, "no input attention_mask")
    matcher = Matcher(graph)
    layers, refused = [], []
    for softmax in matcher.softmaxes():
        try:
            layers.append(matcher.layer(softmax))
        except UnlikeError as problem:
            refused.append(f"{softmax.name or softmax.output[0]}: {problem}")
    if not layers:
        return PassReport(NAME, 0, "; ".join(refused[:2]) or "no softmax over pairs of subwords")
    writer = _Writer(graph)
    for number, layer in enumerate(layers):
        writer.write(layer, f"attention_{number}")
    graph.prune()
    relative = sum(layer.by_query is not None for layer in layers)
    note = f"{len(layers)} layers rewritten, {relative} of them with relative positions"
    return PassReport(NAME, len(layers), note + (f"; left alone: {refused[0]}" if refused else ""))


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Names of the shapes [heads, B, -1] and [heads, B, S, row width]."""

    sequence: str
    rows: str


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        one = graph.weight("mask_one", np.array(1, dtype=np.float32))
        low = graph.weight("mask_low", np.array(MASKED, dtype=np.float32))
        real = graph.add("Cast", ["attention_mask"], "mask_real", to=1)
        padding = graph.add("Mul", [graph.add("Sub", [one, real], "mask_padding"), low], "mask_added")
        self.mask = graph.add("Unsqueeze", [padding, graph.ints(0, 2)], "mask")  # [1, B, 1, S]
        self.real, self.one = real, one
        self.pairs = ""
        self.length = graph.add("Shape", ["input_ids"], "length", start=1, end=2)
        self.before = graph.add("Sub", [self.length, graph.ints(1)], "length_less_one")
        twice = graph.add("Mul", [self.before, graph.ints(2)], "twice_length_less_two")
        self.width = graph.add("Max", [twice, graph.ints(1)], "row_width")  # a lone subword has one number too
        numbers = graph.add("Mul", [self.length, self.width], "numbers_cut")
        self.cut_end = graph.add("Add", [self.before, numbers], "cut_end")
        self.near: dict[bytes, str] = {}
        self.shapes: dict[int, _Shapes] = {}

    def write(self, layer: Layer, name: str) -> None:
        graph, heads = self.graph, layer.heads
        query, key, value = self._projections(layer, name)
        scores = graph.add("FusedMatMul", [query, key], name + "_content", domain=CONTRIB, transB=1)
        for side, positions, read in (("query", layer.by_query, query), ("key", layer.by_key, key)):
            if positions is not None:
                gain = positions.gain / (layer.score_gain if side == "query" else 1)
                shifted = self._shifted(read, positions, gain, heads, f"{name}_{side}")
                if side == "key":
                    shifted = graph.add("Transpose", [shifted], name + "_key_by_query", perm=[0, 1, 3, 2])
                scores = graph.add("Add", [scores, shifted], f"{name}_with_{side}_positions")
        masked = graph.add("Add", [scores, self._mask(layer)], name + "_scores")
        probabilities = graph.add("Softmax", [masked], name + "_probabilities", axis=-1)
        mixed = graph.add("MatMul", [probabilities, value], name + "_mixed")
        turned_back = graph.add("Transpose", [mixed], name + "_rows", perm=[1, 2, 0, 3])
        context = graph.add("Reshape", [turned_back, graph.ints(0, 0, -1)], name + "_context")
        graph.redirect(layer.context, context)

    def _mask(self, layer: Layer) -> str:
        """The mask, [1, B, 1, S]; [1, B, S, S] where what padded queries find is to stay what it was.

        Such queries have no key and look at all alike. Their results reach no answer but through the range that the
        whole batch is quantised with.
        """
        if layer.read.quantised is None or not layer.shut_out:
            return self.mask
        if not self.pairs:
            graph = self.graph
            queries = graph.add("Unsqueeze", [self.real, graph.ints(0, 3)], "mask_queries")
            keys = graph.add("Unsqueeze", [self.real, graph.ints(0, 2)], "mask_keys")
            pairs = graph.add("Mul", [queries, keys], "mask_real_pairs")
            padding = graph.add("Sub", [self.one, pairs], "mask_no_pairs")
            low = graph.weight("mask_alike", np.array(ALIKE, dtype=np.float32))
            self.pairs = graph.add("Mul", [padding, low], "mask_pairs")
        return self.pairs

    def _projections(self, layer: Layer, name: str) -> list[str]:
        """Queries (scaled), keys and values, each [heads, B, S, d], out of one product."""
        graph = self.graph
        parts = (layer.query, layer.key, layer.value)
        added = side_by_side(graph, parts, (layer.score_gain, 1.0, 1.0), name)
        split = graph.add("Reshape", [added, graph.ints(0, 0, 3 * layer.heads, -1)], name + "_heads")
        outside = graph.add("Transpose", [split], name + "_heads_outside", perm=[2, 0, 1, 3])
        hints = [f"{name}_{part}" for part in ("query", "key", "value")]
        return graph.add_many("Split", [outside], hints, axis=0, num_outputs=3)

    def _shifted(self, read: str, positions: Positions, gain: float, heads: int, name: str) -> str:
        """Products with the positions, [heads, B, S, S]: first place fixed by row, the other by column."""
        graph = self.graph
        table = positions.table.transpose(1, 0, 2).reshape(positions.table.shape[1], -1) * np.float32(gain)
        stored = graph.weight(name + "_positions", table)
        near = graph.add("Gather", [stored, self._near(positions.rows)], name + "_near", axis=0)
        by_head = graph.add("Reshape", [near, graph.ints(0, heads, -1)], name + "_near_heads")
        turned = graph.add("Transpose", [by_head], name + "_near_turned", perm=[1, 2, 0])
        width = positions.table.shape[2]
        flat = graph.add("Reshape", [read, graph.ints(heads, -1, width)], name + "_flat")
        products = graph.add("MatMul", [flat, turned], name + "_products")  # [heads, B * S, 2 S - 1]
        shapes = self._shapes(heads)
        # Row i of S starts S - 1 - i columns before its scores: cut S - 1 numbers off the front and one off the end ...
        sequence = graph.add("Reshape", [products, shapes.sequence], name + "_sequence")
        cut = graph.add("Slice", [sequence, self.before, self.cut_end, graph.ints(2)], name + "_cut")
        # ... and what is left has its rows begin where the scores do, when a row is one number shorter.
        rows = graph.add("Reshape", [cut, shapes.rows], name + "_rows")
        return graph.add("Slice", [rows, graph.ints(0), self.length, graph.ints(3)], name + "_shifted")

    def _near(self, rows: Array) -> str:
        """Table rows of the distances that occur, falling from S - 1 to 1 - S."""
        key = rows.tobytes()
        if key not in self.near:
            graph = self.graph
            table = graph.weight("distance_rows", rows)
            first = graph.add("Sub", [graph.ints(LONGEST), self.length], "first_distance")
            last = graph.add("Add", [graph.ints(LONGEST - 1), self.length], "last_distance")
            self.near[key] = graph.add("Slice", [table, first, last, graph.ints(0)], "near_rows")
        return self.near[key]

    def _shapes(self, heads: int) -> _Shapes:
        if heads not in self.shapes:
            graph = self.graph
            rows = graph.add("Shape", ["input_ids"], "batch", start=0, end=1)
            sequence = graph.add("Concat", [graph.ints(heads), rows, graph.ints(-1)], "sequence_shape", axis=0)
            shorter = [graph.ints(heads), rows, self.length, self.width]
            self.shapes[heads] = _Shapes(sequence, graph.add("Concat", shorter, "rows_shape", axis=0))
        return self.shapes[heads]
