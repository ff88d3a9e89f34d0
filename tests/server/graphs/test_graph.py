from __future__ import annotations

import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from kniv.server.graphs.graph import Graph, reads

NAMES = ("a", "b", "c", "d")

Step = tuple[str, int, int]
STEPS = st.lists(st.tuples(st.sampled_from(("add", "redirect", "spare", "remove")), *[st.integers(0, 20)] * 2))


def source() -> Graph:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    nodes = [helper.make_node("Relu", [before], [name]) for before, name in zip(("x", *NAMES), NAMES, strict=False)]
    nodes.append(helper.make_node("Add", ["a", "d"], ["y"]))
    return Graph(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:])))


def looked_up(graph: Graph, names: set[str]) -> dict[str, tuple[int | None, set[int]]]:
    """For each name who makes it and who reads it."""
    made = {name: graph.producer(name) for name in names}
    return {name: (id(made[name]) if made[name] else None, set(map(id, graph.readers(name)))) for name in names}


def worked_out(nodes: list[onnx.NodeProto], names: set[str]) -> dict[str, tuple[int | None, set[int]]]:
    makers = {output: id(node) for node in nodes for output in node.output}
    return {name: (makers.get(name), {id(node) for node in nodes if name in reads(node)}) for name in names}


@given(STEPS)
def test_makers_and_readers_are_those_of_the_nodes_after_any_change(steps: list[Step]) -> None:
    graph = source()
    for kind, one, other in steps:
        names = sorted({name for node in graph.nodes for name in (*node.input, *node.output)} - {"y"})
        old, new = names[one % len(names)], names[other % len(names)]
        match kind:
            case "add":
                graph.add("Mul", [old, new], "made")
            case "remove" if len(graph.nodes) > 1:
                graph.remove([graph.nodes[one % len(graph.nodes)]])
            case "redirect":
                graph.redirect(old, new)
            case "spare":
                graph.redirect(old, new, but=graph.readers(old)[:1])
        known = set(names) | {"x", "y"}
        assert looked_up(graph, known) == worked_out(graph.nodes, known)
        assert all(len(graph.readers(name)) == len(looked_up(graph, {name})[name][1]) for name in known)
