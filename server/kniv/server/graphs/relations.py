"""Relation scores at each subword's best head alone, and what scores any other head.

The source graph scores C relations between all S * S pairs of a row and returns them, of which S * C are read. The
rewritten graph still makes ``label_scores``, but nothing else reads them, so that they run only for those who ask. It
also returns

    relation_scores     [B, S, C]      at the head that ``arc_scores`` likes best
    relation_dependent  [B, S, d + 1]  each subword as a dependent
    relation_head       [B, S, d + 1]  each subword as a head
    relation_weight     [C, d + 1, d + 1]

so that a decoder whose tree gives subword i another head h scores it as relation_dependent[i] W relation_head[h]
(Dozat & Manning 2017, eq. 6, with the bias terms inside the product).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from kniv.server.graphs.contract import DEPENDENT, HEAD, SCORES, WEIGHT
from kniv.server.graphs.graph import Array, Graph, attribute, reads
from kniv.server.graphs.linear import Read, Weight, linear, weight_of, write
from kniv.server.graphs.movement import moved
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.trace import Trace, trace

NAME = "relations"
_ROWS, _LENGTH = 2, 5


@dataclass(frozen=True, slots=True)
class _Biaffine:
    dependent: Read
    head: str
    flat: Weight  # [d + 1, (d + 1) C], a head's value's relations side by side
    classes: int

    @property
    def width(self) -> int:
        return len(self.flat.values)

    @property
    def weight(self) -> Array:
        """[C, d + 1, d + 1]."""
        return self.flat.floats().reshape(self.width, self.width, self.classes).transpose(2, 0, 1)


def apply(graph: Graph) -> PassReport:
    """Score relations at the best heads, and take ``label_scores`` out of everyone's way."""
    if SCORES in graph.outputs:
        return PassReport(NAME, 0, f"the graph has an output {SCORES}")
    if "label_scores" not in graph.outputs or "arc_scores" not in graph.outputs:
        return PassReport(NAME, 0, "no output label_scores beside arc_scores")
    sizes = trace(graph, _ROWS, _LENGTH)
    found = _biaffine(graph, sizes)
    if found is None:
        return PassReport(NAME, 0, "label_scores are no biaffine product of two projections with one weight")
    lookups = [node for node in graph.readers("label_scores") if node.op_type != "Shape"]
    if any(not _at_best_head(graph, sizes, node) for node in lookups):
        return PassReport(NAME, 0, "label_scores are read at other places than the best head")
    square = _by_dependent(graph, found)
    scores = _at_best(graph, found, square)
    for node in lookups:
        graph.redirect(node.output[0], scores)
    everywhere = graph.add("Unsqueeze", [found.head, graph.ints(1)], "relation_heads")
    graph.redirect("label_scores", graph.add("MatMul", [everywhere, square], "relation_at_all"))
    _declare(graph, found, graph.add("Squeeze", [scores, graph.ints(2)], SCORES))
    graph.prune()
    return PassReport(NAME, 1, f"{found.classes} relations scored at the best head instead of at every one")


def _by_dependent(graph: Graph, found: _Biaffine) -> str:
    """What each dependent does to a head's values, [B, S, d + 1, C]."""
    left = write(graph, found.dependent, found.flat, None, "relation_left")
    return graph.add("Reshape", [left, graph.ints(0, 0, found.width, found.classes)], "relation_left_square")


def _at_best(graph: Graph, found: _Biaffine, square: str) -> str:
    """Scores at the best head, [B, S, 1, C]."""
    best = graph.add("ArgMax", ["arc_scores"], "best_head", axis=-1, keepdims=1)
    chosen = graph.add("GatherND", [found.head, best], "best_head_values", batch_dims=1)
    row = graph.add("Unsqueeze", [chosen, graph.ints(2)], "best_head_row")
    return graph.add("MatMul", [row, square], "relation_at_best")


def _declare(graph: Graph, found: _Biaffine, scores: str) -> None:
    classes, width = found.classes, found.width
    outputs = graph.model.graph.output
    weight = graph.weight(WEIGHT + "_stored", found.weight)
    dependent = found.dependent.values
    if found.dependent.quantised is not None:  # what was multiplied, so that other heads are scored no differently
        dependent = graph.add("DequantizeLinear", found.dependent.quantised, DEPENDENT + "_seen")
    made = [(scores, SCORES, ["B", "S", classes]), (weight, WEIGHT, [classes, width, width])]
    made += [(dependent, DEPENDENT, ["B", "S", width]), (found.head, HEAD, ["B", "S", width])]
    for source, name, shape in made:
        if source != name:
            graph.append(helper.make_node("Identity", [source], [name], name=name))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    graph.touch()


def _biaffine(graph: Graph, sizes: Trace) -> _Biaffine | None:
    view = moved(graph, sizes, "label_scores")
    node = None if view is None or view.gain != 1 else graph.producer(view.root)
    if view is None or node is None:
        return None
    if _is_biaffine(node):
        weight = graph.value(node.input[1])
        if weight is None:
            return None
        classes, width, _ = weight.shape
        wanted = np.arange(view.places.size).reshape(_ROWS, classes, _LENGTH, _LENGTH).transpose(0, 2, 3, 1)
        if not np.array_equal(view.places, wanted):
            return None
        flat = Weight(weight.transpose(1, 2, 0).reshape(width, -1))
        return _Biaffine(Read(node.input[0]), node.input[2], flat, classes)
    if node.op_type == "MatMul":
        return _two_products(graph, sizes, node, view.places)
    return None


def _two_products(graph: Graph, sizes: Trace, node: onnx.NodeProto, places: Array) -> _Biaffine | None:
    """``(dependent W) head^T``, with the relations side by side in the columns of ``dependent W``."""
    left, right = moved(graph, sizes, node.input[0]), moved(graph, sizes, node.input[1])
    inner = None if left is None or left.gain != 1 else linear(graph, left.root)
    if left is None or right is None or right.gain != 1 or inner is None or inner.bias is not None:
        return None
    flat, width = weight_of(graph, inner), right.places.shape[1]
    if flat.values.ndim != 2 or flat.values.shape[0] != width or flat.values.shape[1] % width:
        return None
    classes = flat.values.shape[1] // width
    heads = np.arange(_ROWS * _LENGTH * width).reshape(_ROWS, _LENGTH, width).transpose(0, 2, 1)
    scores = np.arange(_ROWS * _LENGTH * classes * _LENGTH).reshape(_ROWS, _LENGTH, classes, _LENGTH)
    straight = np.array_equal(left.places.ravel(), np.arange(left.places.size))
    if not straight or not np.array_equal(right.places, heads):
        return None
    if not np.array_equal(places, scores.transpose(0, 1, 3, 2)):
        return None
    turned = np.arange(classes * width).reshape(classes, width).T.ravel()
    return _Biaffine(inner.read, right.root, flat.columns(turned), classes)


def _at_best_head(graph: Graph, sizes: Trace, node: onnx.NodeProto) -> bool:
    """Whether a node picks, for each subword, the scores at the arg max of its arc scores."""
    if node.op_type != "GatherElements" or attribute(node, "axis", 0) != 2 or node.input[0] != "label_scores":
        return False
    index = _index(graph, sizes, node.input[1])
    if index is None:
        return False
    best, places = index
    maker = graph.producer(best)
    if maker is None or maker.op_type != "ArgMax" or maker.input[0] != "arc_scores":
        return False
    if attribute(maker, "axis", 0) not in (-1, 2) or attribute(maker, "select_last_index", 0):
        return False
    wanted = np.arange(_ROWS * _LENGTH).reshape(_ROWS, _LENGTH, 1, 1)
    return bool((places == wanted).all())


def _index(graph: Graph, sizes: Trace, name: str) -> tuple[str, Array] | None:
    """Where an index comes from, past the clip at 0 that some exporters write."""
    view = moved(graph, sizes, name)
    if view is None:
        return None
    node = graph.producer(view.root)
    # With a third input there is an upper end too, which would change some indices.
    clips = node is not None and node.op_type in ("Clip", "Max") and len(reads(node)) == 2
    if node is not None and clips and sizes.scalar(node.input[1]) == 0:
        inner = moved(graph, sizes, node.input[0])
        return None if inner is None else (inner.root, inner.places.ravel()[view.places])
    return view.root, view.places


def _is_biaffine(node: onnx.NodeProto) -> bool:
    """Whether a node is dependent x weight x head, [B, S, i], [C, i, j], [B, S, j] to [B, C, S, S]."""
    return node.op_type == "Einsum" and _letters(attribute(node, "equation", b"").decode()) == "abc,dce,afe->adbf"


def _letters(equation: str) -> str:
    """An equation with its letters in the order in which they come."""
    letters: dict[str, str] = {}
    for letter in filter(str.isalpha, equation):
        letters.setdefault(letter, chr(ord("a") + len(letters)))
    return "".join(letters.get(letter, letter) for letter in equation.replace(" ", ""))
