"""Shapes that exporters piece together, each made in one step out of the input's, once for all who read it.

A vector of integers that is the same mixture of rows, subwords and fixed numbers at every size tried is that mixture:
``Shape``, ``Gather``, ``Unsqueeze``, ``Concat`` and the like in front of it are dropped. Flags that are the same at
every size are constants.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import onnx

from kniv.server.graphs.contract import LONGEST
from kniv.server.graphs.graph import Array, Graph
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.trace import Trace, trace

NAME = "sizes"
_TRIED = ((2, 5), (3, 7), (1, 1), (1, LONGEST), (13, 1))  # rows and subwords, the most subwords of a row among them
_AXES = {"rows": 0, "subwords": 1}
_INTEGER, _FLAG = 7, 9  # element types

Part = str | int


def apply(graph: Graph) -> PassReport:
    """Rewrite vectors of sizes that take more than one step to make."""
    if "input_ids" not in graph.inputs:
        return PassReport(NAME, 0, "no input input_ids")
    traces = [trace(graph, rows, length) for rows, length in _TRIED]
    made: dict[tuple[Part, ...], str] = {}
    places = 0
    for node in list(graph.nodes):
        for name in node.output:
            kind = traces[0].kinds.get(name)
            if kind is None or name in graph.outputs or any(name not in one.values for one in traces):
                continue
            seen = [one.values[name] for one in traces]
            if kind == (_FLAG, ()) and len({bool(value) for value in seen}) == 1:
                graph.redirect(name, graph.weight(name + "_always", seen[0]))
            elif kind[0] == _INTEGER and len(kind[1]) == 1 and kind[1][0] and _costly(graph, node, traces[0]):
                parts = _parts(seen)
                if parts is None:
                    continue
                graph.redirect(name, _vector(graph, parts, made))
            else:
                continue
            places += 1
    graph.prune()
    return PassReport(NAME, places, f"{places} shapes made in one step" if places else "no shape takes several steps")


def _costly(graph: Graph, node: onnx.NodeProto, sizes: Trace) -> bool:
    """Whether a vector takes more than one step, and something other than arithmetic on sizes reads it."""
    if _shape(node) or (node.op_type == "Concat" and all(_ready(graph, name) for name in node.input)):
        return False
    made = [out for reader in graph.readers(node.output[0]) for out in reader.output]
    return any(out not in sizes.values or sizes.kinds[out][0] not in (_INTEGER, _FLAG) for out in made)


def _ready(graph: Graph, name: str) -> bool:
    node = graph.producer(name)
    return name in graph.weights or (node is not None and _shape(node))


def _shape(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "Shape" and node.input[0] == "input_ids")


def _parts(seen: list[Array]) -> tuple[Part, ...] | None:
    """What each number of a vector is, of its values at all sizes tried."""
    if len({value.shape for value in seen}) != 1:
        return None
    axes = {tuple(sizes[axis] for sizes in _TRIED): name for name, axis in _AXES.items()}
    found: list[Part] = []
    for column in map(tuple, np.stack(seen, axis=1).tolist()):
        if column not in axes and len(set(column)) > 1:
            return None
        found.append(axes.get(column, column[0]))
    return tuple(found)


def _vector(graph: Graph, parts: tuple[Part, ...], made: dict[tuple[Part, ...], str]) -> str:
    """The vector, as one piece or several put together; what has been made before is used again."""
    if parts in made:
        return made[parts]
    axis = _AXES.get(parts[0]) if len(parts) == 1 and isinstance(parts[0], str) else None
    if axis is not None:
        made[parts] = graph.add("Shape", ["input_ids"], f"{parts[0]}_size", start=axis, end=axis + 1)
    elif parts == tuple(_AXES):
        made[parts] = graph.add("Shape", ["input_ids"], "input_size")
    elif all(isinstance(part, int) for part in parts):
        made[parts] = graph.ints(*(int(part) for part in parts))
    else:
        pieces = [_vector(graph, piece, made) for piece in _pieces(parts)]
        made[parts] = graph.add("Concat", pieces, "sizes", axis=0)
    return made[parts]


def _pieces(parts: tuple[Part, ...]) -> list[tuple[Part, ...]]:
    """Rows and subwords in a row, one of them alone, or fixed numbers in a row."""
    both = tuple(_AXES)
    if parts[:2] == both:
        return [both, *(_pieces(parts[2:]) if parts[2:] else [])]
    fixed, run = next((key, list(group)) for key, group in groupby(parts, key=lambda part: isinstance(part, int)))
    piece = tuple(run) if fixed else parts[:1]
    rest = parts[len(piece) :]
    return [piece, *(_pieces(rest) if rest else [])]
