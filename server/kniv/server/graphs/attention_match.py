"""Finding attention layers, however their shapes and positions are spelt.

A layer is read off the graph and then held to its meaning at small sizes: which projection each product reads, in which
layout, scaled by how much, which position each pair looks at, which pairs the mask shuts out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from kniv.server.graphs.attention_mask import UnlikeError, added, padded_queries
from kniv.server.graphs.contract import LONGEST
from kniv.server.graphs.graph import Array, Graph, attribute
from kniv.server.graphs.linear import Linear, Read, linear
from kniv.server.graphs.movement import Moved, moved
from kniv.server.graphs.trace import Trace, trace

ROWS, LENGTH = 2, 5
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
LONG_MASK = (np.arange(LONGEST) < LONGEST - 3).astype(np.int64)[None]


@dataclass(frozen=True, slots=True)
class Positions:
    """A term of the scores that depends on how far two subwords stand apart.

    Attributes:
        table: a vector [heads, n, d] a relative position.
        rows: for each distance from LONGEST - 1 down to 1 - LONGEST its row of ``table``.
        gain: factor on the term.
    """

    table: Array
    rows: NDArray[np.int64]
    gain: float


@dataclass(frozen=True, slots=True)
class Layer:
    """One attention layer.

    Attributes:
        read: its input [B, S, H].
        query, key, score_gain, value: projections, and the factor on the content scores.
        shut_out: whether a padded query may look at no key, so that it looks at all alike. Padding has no say in float.
        by_query: query times positions, looked up by query place minus key place.
        by_key: key times positions, looked up by key place minus query place.
        context: its result [B, S, H], heads side by side.
        heads: number of heads.
    """

    read: Read
    query: Linear
    key: Linear
    value: Linear
    score_gain: float
    shut_out: bool
    by_query: Positions | None
    by_key: Positions | None
    context: str
    heads: int


class Matcher:
    """Reads the attention layers of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.small = trace(graph, ROWS, LENGTH, MASK)
        self.small.elsewhere = lambda: self.long
        self._long: Trace | None = None

    @property
    def long(self) -> Trace:
        """The longest row, at which windows and distances that a few subwords do not fill show."""
        if self._long is None:
            self._long = trace(self.graph, 1, LONGEST, LONG_MASK)
        return self._long

    def softmaxes(self) -> list[onnx.NodeProto]:
        """The softmaxes over pairs of subwords."""
        pairs = (LENGTH, LENGTH)
        nodes = [node for node in self.graph.nodes if node.op_type == "Softmax"]
        return [node for node in nodes if (self.small.shape(node.output[0]) or ())[-2:] == pairs]

    def layer(self, softmax: onnx.NodeProto) -> Layer:
        """The layer around a softmax.

        Raises:
            UnlikeError: it is of another kind.
        """
        shape = self.small.shape(softmax.output[0]) or ()
        heads = int(np.prod(shape[:-2])) // ROWS
        query = key = None
        score_gain, terms = 0.0, {}
        found_terms, padded = self._terms(softmax.input[0])
        for name, outer in found_terms:
            found = self._term(name, heads)
            if isinstance(found, tuple):
                query, key, score_gain = found[0], found[1], found[2] * outer
            else:
                side, root, positions = found.side, found.root, found.positions
                terms[side] = (root, Positions(positions.table, positions.rows, positions.gain * outer))
        if query is None or key is None:
            raise UnlikeError("no product of queries and keys")
        if any(terms[side][0] != root for side, root in (("query", query), ("key", key)) if side in terms):
            raise UnlikeError("positions are multiplied by something else than queries and keys")
        value, context = self._context(softmax.output[0], heads)
        projections = [self._projection(root) for root in (query, key, value)]
        read = projections[0].read
        if any(projection.read != read for projection in projections):
            raise UnlikeError("queries, keys and values come of different tensors")
        if read.quantised is not None and padded is None:
            raise UnlikeError("what padding looks at would change the range that activations are quantised with")
        return Layer(
            read,
            projections[0],
            projections[1],
            projections[2],
            score_gain,
            bool(padded),
            terms["query"][1] if "query" in terms else None,
            terms["key"][1] if "key" in terms else None,
            context,
            heads,
        )

    def _terms(self, name: str) -> tuple[list[tuple[str, float]], bool | None]:
        """Terms of the scores with their factors, the mask taken off and held to its meaning: see `attention_mask`."""
        node, masked, padded = self._behind(name)[0], False, None
        if node is not None and node.op_type == "Where":
            low = self.small.constant(node.input[1])
            if node.input[0] not in self.small.values or low is None or low > -1e4:
                raise UnlikeError("scores are replaced by something else than a mask")
            padded = self._check_mask(node.input[0], shut=True)
            name, masked = node.input[2], True
        found: list[tuple[str, float]] = []
        waiting = [(name, 1.0)]
        while waiting:
            name, gain = waiting.pop()
            node, by = self._behind(name)
            if node is None or node.op_type != "Add":
                found.append((name, gain))
                continue
            for side in node.input:
                known = self.small.values.get(side)
                if known is None:
                    waiting.append((side, gain * by))
                elif known.any() or np.any(self.long.values.get(side, True)):
                    alike = self._check_mask(side) is False
                    # Added to scores a mask leaves differences between them, however low it is.
                    padded = False if alike and not masked else None
                    masked = True
        if not masked:
            raise UnlikeError("padding is not masked")
        return found, padded

    def _behind(self, name: str) -> tuple[onnx.NodeProto | None, float]:
        """The node behind a tensor, past reshapes that leave the order of values alone."""
        view = moved(self.graph, self.small, name)
        if view is None or not np.array_equal(view.places.ravel(), np.arange(view.places.size)):
            return self.graph.producer(name), 1.0
        return self.graph.producer(view.root), view.gain

    def _check_mask(self, name: str, *, shut: bool = False) -> bool | None:
        """Hold a mask to its meaning; tells what padded queries look at."""
        added(self.long, LONG_MASK, name, shut=shut)
        return padded_queries(added(self.small, MASK, name, shut=shut), MASK)

    def _term(self, name: str, heads: int) -> tuple[str, str, float] | _PositionTerm:
        view = self._moved(name)
        node = self.graph.producer(view.root)
        if node is None or node.op_type not in ("MatMul", "GatherElements"):
            raise UnlikeError(f"a term of the scores is a {node.op_type if node else 'tensor'}")
        straight = view.places.reshape(-1, LENGTH, LENGTH)
        plain = np.arange(straight.size).reshape(straight.shape)
        if node.op_type == "MatMul":
            left, right = self._moved(node.input[0]), self._moved(node.input[1])
            self._check_heads(left, heads, flipped=False)
            self._check_heads(right, heads, flipped=True)
            if not np.array_equal(straight, plain):
                raise UnlikeError("content scores are moved about")
            return left.root, right.root, view.gain * left.gain * right.gain
        if np.array_equal(straight, plain):
            side = "query"
        elif np.array_equal(straight, plain.transpose(0, 2, 1)):
            side = "key"
        else:
            raise UnlikeError("position scores are moved about")
        product = self._moved(node.input[0])
        multiplied = self.graph.producer(product.root)
        if multiplied is None or multiplied.op_type != "MatMul":
            raise UnlikeError("positions are looked up in something else than a product")
        left, right = self._moved(multiplied.input[0]), self._moved(multiplied.input[1])
        self._check_heads(left, heads, flipped=False)
        table = self.graph.value(right.root)
        if table is None:
            raise UnlikeError("relative positions depend on the input")
        places = right.places.reshape(ROWS, heads, -1, right.places.shape[-1])
        if not np.array_equal(places[0], places[1]):
            raise UnlikeError("relative positions differ from row to row")
        arranged = table.ravel()[places[0]].transpose(0, 2, 1)
        rows = self._distances(node)
        gain = view.gain * product.gain * left.gain * right.gain
        return _PositionTerm(side, left.root, Positions(arranged, rows, gain))

    def _distances(self, gather: onnx.NodeProto) -> NDArray[np.int64]:
        """Rows of the position table by distance, read off the indices that the graph makes at the longest size."""
        if attribute(gather, "axis", 0) not in (-1, 2):
            raise UnlikeError("positions are looked up along another axis")
        view = self._moved(gather.input[1])
        root = self.long.values.get(view.root)
        if root is None or root.shape[-2:] != (LONGEST, LONGEST) or root.size != LONGEST**2:
            raise UnlikeError("positions are not looked up by places alone")
        pairs = root.reshape(LONGEST, LONGEST)
        rows = np.concatenate([pairs[::-1, 0], pairs[0, 1:]]).astype(np.int64)
        apart = np.arange(LONGEST)[:, None] - np.arange(LONGEST)
        if not np.array_equal(pairs, rows[LONGEST - 1 - apart]):
            raise UnlikeError("positions depend on more than the distance")
        small = self.small.values.get(gather.input[1])
        near = np.arange(LENGTH)[:, None] - np.arange(LENGTH)
        if small is None or not (small.reshape(-1, LENGTH, LENGTH) == rows[LONGEST - 1 - near]).all():
            raise UnlikeError("positions depend on the batch or its length")
        return rows

    def _context(self, probabilities: str, heads: int) -> tuple[str, str]:
        """The value projection's result and the layer's."""
        product = self._next_product(probabilities)
        left, right = self._moved(product.input[0]), self._moved(product.input[1])
        if left.root != probabilities or left.gain != 1 or right.gain != 1:
            raise UnlikeError("probabilities are not what is multiplied with the values")
        self._check_heads(right, heads, flipped=False)
        context, name = None, product.output[0]
        while context is None:
            further = [node for node in self.graph.readers(name) if node.op_type != "Shape"]
            if len(further) != 1 or further[0].op_type not in ("Reshape", "Transpose"):
                raise UnlikeError("the heads' results are not put side by side")
            name = further[0].output[0]
            shape = self.small.shape(name) or ()
            if len(shape) == 3 and shape[:2] == (ROWS, LENGTH):
                context = name
        view = self._moved(context)
        width = view.places.shape[-1] // heads
        wanted = np.arange(view.places.size).reshape(ROWS, heads, LENGTH, width).transpose(0, 2, 1, 3)
        if view.root != product.output[0] or not np.array_equal(view.places.ravel(), wanted.ravel()):
            raise UnlikeError("the heads' results are put together in another order")
        return right.root, context

    def _next_product(self, name: str) -> onnx.NodeProto:
        while True:
            further = [node for node in self.graph.readers(name) if node.op_type != "Shape"]
            if len(further) != 1:
                raise UnlikeError("probabilities are read more than once")
            if further[0].op_type == "MatMul":
                return further[0]
            name = further[0].output[0]

    def _projection(self, name: str) -> Linear:
        found = linear(self.graph, name)
        if found is None:
            raise UnlikeError("a projection is no linear layer")
        return found

    def _check_heads(self, view: Moved, heads: int, *, flipped: bool) -> None:
        """Values [B, S, H] as [B * heads, S, d], or [B * heads, d, S]."""
        shape = self.small.shape(view.root)
        if shape is None or len(shape) != 3 or shape[:2] != (ROWS, LENGTH) or shape[2] % heads:
            raise UnlikeError("a product reads something else than a projection")
        wanted = np.arange(int(np.prod(shape))).reshape(ROWS, LENGTH, heads, -1).transpose(0, 2, 1, 3)
        if flipped:
            wanted = wanted.swapaxes(-1, -2)
        if not np.array_equal(view.places.ravel(), wanted.ravel()):
            raise UnlikeError("heads are cut out of a projection in another way")

    def _moved(self, name: str) -> Moved:
        view = moved(self.graph, self.small, name)
        if view is None:
            raise UnlikeError(f"the shape of {name} is not known")
        return view


@dataclass(frozen=True, slots=True)
class _PositionTerm:
    side: str
    root: str
    positions: Positions
