"""One graph that runs no more heads than are asked for.

A further input, ``tasks`` (bool [6]: POS, entities, tree, roles, dialog act, and ``label_scores`` between all pairs),
decides which heads run. Where it is not given all do, so that the file keeps the published contract. Each stands
inside an ``If``; what one head reads of another makes that one run too. Outputs that were not asked for come back empty
([0]). Weights stay outside the branches, so there is one copy of each. Where the relations' pass was skipped,
``label_scores`` come with the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kniv.server.graphs.contract import DEPENDENT, HEAD, HEADS, LABELS, SCORES, TASKS
from kniv.server.graphs.contract import TASKS_INPUT as INPUT
from kniv.server.graphs.graph import Graph, reads, rename_reads
from kniv.server.graphs.linear import QUANTISED
from kniv.server.graphs.report import PassReport
from kniv.server.graphs.trace import Trace, trace

NAME = "tasks"
_OUTPUTS = {
    "pos": ("pos_logits",),
    "ner": ("ner_logits",),
    "dep": ("arc_scores", SCORES, DEPENDENT, HEAD),
    "srl": ("srl_logits",),
    "cls": ("cls_logits",),
}


@dataclass(slots=True)
class _Head:
    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    needs: set[str] = field(default_factory=set)  # heads whose nodes it reads, itself included


def apply(graph: Graph) -> PassReport:
    """Put each head inside an ``If``."""
    if INPUT in graph.inputs:
        return PassReport(NAME, 0, f"the graph has an input {INPUT}")
    missing = [task for task in HEADS if not set(_OUTPUTS[task]) & set(graph.outputs)]
    if missing:
        return PassReport(NAME, 0, f"no output of {', '.join(missing)}")
    graph.prune()
    heads = _heads(graph)
    if not all(head.nodes for head in heads):
        return PassReport(NAME, 0, "a head has no node of its own")
    _repeat_products(graph, heads)
    sizes = trace(graph, 2, 5)
    conditions = _conditions(graph, heads)
    made: list[onnx.NodeProto] = []
    for head in heads:
        crossing = _crossing(graph, head)
        made.append(_branch(head, {name: _type(graph, sizes, name) for name in crossing}, conditions[head.name]))
    graph.remove([node for head in heads for node in head.nodes])
    for node in made:
        graph.append(node)
    graph.model.graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.BOOL, [len(TASKS)]))
    graph.weights[INPUT] = numpy_helper.from_array(np.ones(len(TASKS), dtype=bool), INPUT)
    graph.prune()
    return PassReport(NAME, len(heads), "heads run when asked for: " + ", ".join(head.name for head in heads))


def _heads(graph: Graph) -> list[_Head]:
    """The nodes of each head: a node belongs to the first head in the cascade that needs it, if not all do."""
    outputs = dict(_OUTPUTS)
    if SCORES in graph.outputs:
        outputs[LABELS] = ("label_scores",)
    else:
        outputs["dep"] += ("label_scores",)
    needed = {task: _ancestors(graph, [n for n in outputs[task] if n in graph.outputs]) for task in outputs}
    heads = {task: _Head(task) for task in outputs}
    owner: dict[int, str] = {}
    for node in graph.nodes:
        users = [task for task in outputs if id(node) in needed[task]]
        if not users or ("cls" in users and len(users) > 1):
            continue
        heads[users[0]].nodes.append(node)
        owner[id(node)] = users[0]
    for task, head in heads.items():
        head.needs = {owner[key] for key in needed[task] if key in owner} | {task}
    return list(heads.values())


def _repeat_products(graph: Graph, heads: list[_Head]) -> None:
    """Let ``label_scores`` make what they read of the tree, where that is a reshaped product with a weight.

    They are hardly ever asked for. What they read, [B, S, d + 1, C], would be copied out of that branch and lie in
    memory until the end of every run all the same.
    """
    labels = next((head for head in heads if head.name == LABELS), None)
    if labels is None:
        return
    others = {id(node) for head in heads if head is not labels for node in head.nodes}
    for name in dict.fromkeys(name for node in labels.nodes for name in reads(node)):
        shaped = graph.producer(name)
        product = None if shaped is None or shaped.op_type != "Reshape" else graph.producer(shaped.input[0])
        if shaped is None or product is None or not {id(shaped), id(product)} <= others:
            continue
        if product.op_type not in ("MatMul", QUANTISED) or product.input[1] not in graph.weights:
            continue
        again = [_copied(product, {out: graph.fresh(out + "_again") for out in product.output})]
        again.append(_copied(shaped, {shaped.input[0]: again[0].output[0], name: graph.fresh(name + "_again")}))
        for node in labels.nodes:
            rename_reads(node, name, again[1].output[0])
        for node in again:
            graph.append(node)
        labels.nodes = again + labels.nodes
    graph.prune()


def _copied(node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
    """A node with other names for some of what it reads and makes."""
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    for row in (copied.input, copied.output):
        for index, name in enumerate(row):
            row[index] = names.get(name, name)
    return copied


def _ancestors(graph: Graph, names: list[str]) -> set[int]:
    found: set[int] = set()
    waiting = list(names)
    while waiting:
        node = graph.producer(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting += reads(node)
    return found


def _conditions(graph: Graph, heads: list[_Head]) -> dict[str, str]:
    """For each head the flag [1] that it runs: it is asked for, or a head is that reads it.

    One product counts for each head what asks for it: in a short run every operator that is saved tells.
    """
    needs = {head.name: head.needs for head in heads}
    asks = [[head.name in needs.get(task, ()) for head in heads] for task in TASKS]
    numbers = graph.add("Cast", [INPUT], "tasks_asked", to=TensorProto.FLOAT)
    counts = graph.add("MatMul", [numbers, graph.weight("tasks_needs", np.array(asks, np.float32))], "tasks_asking")
    runs = graph.add("Cast", [counts], "tasks_run", to=TensorProto.BOOL)
    flags = graph.add_many("Split", [runs], [f"run_{name}" for name in needs], axis=0, num_outputs=len(heads))
    return dict(zip(needs, flags, strict=True))


def _crossing(graph: Graph, head: _Head) -> list[str]:
    """Tensors of a head that something else reads."""
    inside = {id(node) for node in head.nodes}
    read = {name for node in graph.nodes if id(node) not in inside for name in reads(node)} | set(graph.outputs)
    return [name for node in head.nodes for name in node.output if name in read]


def _type(graph: Graph, sizes: Trace, name: str) -> int:
    """Element type of a tensor; quantised graphs hold operators that the trace does not know."""
    if name in sizes.kinds:
        return sizes.kinds[name][0]
    node = graph.producer(name)
    assert node is not None
    if node.op_type == "QuantizeLinear":
        return int(graph.weights[node.input[2]].data_type)
    if node.op_type == "DynamicQuantizeLinear":
        return int(TensorProto.FLOAT if name == node.output[1] else TensorProto.UINT8)
    return int(TensorProto.INT32 if node.op_type == "MatMulInteger" else TensorProto.FLOAT)


def _branch(head: _Head, crossing: dict[str, int], condition: str) -> onnx.NodeProto:
    inside = {name: f"{name}_of_{head.name}" for name in crossing}
    nodes = [_copied(node, inside) for node in head.nodes]
    empty = {name: f"{name}_without_{head.name}" for name in crossing}
    nothing = [
        helper.make_node("Constant", [], [empty[name]], name=empty[name], value=helper.make_tensor(name, kind, [0], []))
        for name, kind in crossing.items()
    ]
    full_values = [helper.make_tensor_value_info(inside[name], kind, None) for name, kind in crossing.items()]
    empty_values = [helper.make_tensor_value_info(empty[name], kind, None) for name, kind in crossing.items()]
    return helper.make_node(
        "If",
        [condition],
        list(crossing),
        name=f"head_{head.name}",
        then_branch=helper.make_graph(nodes, f"with_{head.name}", [], full_values),
        else_branch=helper.make_graph(nothing, f"without_{head.name}", [], empty_values),
    )
