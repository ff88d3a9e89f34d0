"""A graph that passes can change: nodes and weights by name, new ones with fresh names, dead ones dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

CONTRIB = "com.microsoft"


class Graph:
    """The main graph of a model, open for change until :meth:`close`.

    ``Constant`` nodes stand among the weights. Weights are not copied: those that no pass touches stay where they are.

    Args:
        model: the model; it is changed in place.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._stored = set(self.weights)
        self._values: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            value = _constant_value(node)
            if value is None:
                self.nodes.append(node)
            else:
                value.name = node.output[0]
                self.weights[value.name] = value
        self._names = {name for node in self.nodes for name in [*node.input, *node.output]} | set(self.weights)
        self._producers: dict[str, onnx.NodeProto] | None = None
        self._readers: dict[str, list[onnx.NodeProto]] | None = None

    @property
    def inputs(self) -> list[str]:
        """Names of the graph's inputs."""
        return [value.name for value in self.model.graph.input]

    @property
    def outputs(self) -> list[str]:
        """Names of the graph's outputs."""
        return [value.name for value in self.model.graph.output]

    def opset(self) -> int:
        """Version of the standard operators."""
        return next(int(entry.version) for entry in self.model.opset_import if entry.domain == "")

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; None for inputs and weights."""
        if self._producers is None:
            self._producers = {output: node for node in self.nodes for output in node.output}
        return self._producers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor, those whose subgraphs do included."""
        if self._readers is None:
            self._readers = {}
            for node in self.nodes:
                for read in set(reads(node)):
                    self._readers.setdefault(read, []).append(node)
        return self._readers.get(name, [])

    def value(self, name: str) -> Array | None:
        """A weight as an array, None where ``name`` is no weight."""
        tensor = self.weights.get(name)
        if tensor is None:
            return None
        if name in self._values:
            return self._values[name]
        found: Array = numpy_helper.to_array(tensor)
        if found.size <= 1024:
            self._values[name] = found
        return found

    def store(self, name: str, value: Array) -> None:
        """Give a weight another value."""
        self.weights[name].CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), name))
        self._values.pop(name, None)

    def scalar(self, name: str) -> float | None:
        """The one number in a weight, None where ``name`` is anything else."""
        tensor = self.weights.get(name)
        if tensor is None or int(np.prod(tensor.dims)) != 1:
            return None
        found = self.value(name)
        return None if found is None else float(found.item())

    def fresh(self, hint: str) -> str:
        """A name that nothing has yet."""
        name, count = hint, 1
        while name in self._names:
            name, count = f"{hint}_{count}", count + 1
        self._names.add(name)
        return name

    def weight(self, hint: str, value: Array) -> str:
        """Store a weight; returns its name."""
        name = self.fresh(hint)
        self.weights[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        """A weight that holds an int64 vector, the same one for the same numbers."""
        name = "ints_" + "_".join(str(value).replace("-", "m") for value in values)
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
            self._names.add(name)
        return name

    def add(self, kind: str, inputs: Sequence[str], hint: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name, made from ``hint``."""
        return self.add_many(kind, inputs, [hint], domain=domain, **attributes)[0]

    def add_many(
        self, kind: str, inputs: Sequence[str], hints: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; returns their names."""
        outputs = [self.fresh(hint) for hint in hints]
        self.append(helper.make_node(kind, list(inputs), outputs, name=outputs[0], domain=domain, **attributes))
        return outputs

    def append(self, node: onnx.NodeProto) -> None:
        """Add a ready-made node."""
        self.nodes.append(node)
        self._names.update(node.output)
        if self._producers is not None:
            self._producers.update(dict.fromkeys(node.output, node))
        if self._readers is not None:
            for read in set(reads(node)):
                self._readers[read] = [*self._readers.get(read, ()), node]  # whoever goes through the old one may go on

    def remove(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Take nodes out."""
        gone = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in gone]
        self.touch()

    def redirect(self, old: str, new: str, *, but: Iterable[onnx.NodeProto] = ()) -> None:
        """Let whoever reads ``old`` read ``new``; a graph output of the name ``old`` becomes what ``new`` is.

        Args:
            but: nodes that go on reading ``old``.
        """
        spared = {id(node) for node in but}
        if old not in self.outputs:
            readers, known = self.readers(old), self.readers(new)
            moved = [node for node in readers if id(node) not in spared]
            for node in moved:
                rename_reads(node, old, new)
            assert self._readers is not None
            self._readers[old] = [node for node in readers if id(node) in spared]
            self._readers[new] = known + [node for node in moved if all(node is not other for other in known)]
            return
        before, made = self.producer(old), self.producer(new)
        if made is None:
            made = helper.make_node("Identity", [new], [self.fresh(new + "_copy")])
            self.append(made)
            new = made.output[0]
        hidden = self.fresh(old + "_before")
        for node in self.readers(old):
            if id(node) in spared or node is made:
                rename_reads(node, old, hidden)
        for node in self.readers(new):
            rename_reads(node, new, old)
        if before is not None:
            _rename(before.output, old, hidden)
        _rename(made.output, new, old)
        self.touch()

    def prune(self) -> None:
        """Drop nodes and weights that no output needs; put the nodes in an order that runs."""
        makers = {output: node for node in self.nodes for output in node.output}
        ordered: list[onnx.NodeProto] = []
        state: dict[int, bool] = {}  # False while a node's inputs are being visited
        stack = [(name, False) for name in reversed(self.outputs)]
        while stack:
            name, leaving = stack.pop()
            node = makers.get(name)
            if node is None:
                continue
            if leaving:
                if not state[id(node)]:
                    state[id(node)] = True
                    ordered.append(node)
            elif id(node) not in state:
                state[id(node)] = False
                stack.append((name, True))
                stack.extend((read, False) for read in reversed(reads(node)))
        self.nodes = ordered
        used = {name for node in ordered for name in reads(node)} | set(self.outputs) | set(self.inputs)
        self.weights = {name: tensor for name, tensor in self.weights.items() if name in used}
        self.touch()

    def close(self) -> None:
        """Write the graph back into its model."""
        self.prune()
        proto = self.model.graph
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del proto.node[:], proto.value_info[:]
        proto.node.extend(nodes)
        added = [tensor for name, tensor in self.weights.items() if name not in self._stored]
        for index in reversed(range(len(proto.initializer))):
            if proto.initializer[index].name not in self.weights:
                del proto.initializer[index]
        proto.initializer.extend(added)
        known = {entry.domain for entry in self.model.opset_import}
        for domain in {node.domain for node in nodes} - known:
            self.model.opset_import.append(helper.make_opsetid(domain, 1))

    def touch(self) -> None:
        """Say that nodes were changed from outside."""
        self._producers = self._readers = None


def reads(node: onnx.NodeProto) -> list[str]:
    """Names that a node reads, out of its subgraphs too."""
    found = [name for name in node.input if name]
    for graph in subgraphs(node):
        inner = {output for child in graph.node for output in child.output}
        inner.update(tensor.name for tensor in graph.initializer)
        found += [name for child in graph.node for name in reads(child) if name not in inner]
        found += [value.name for value in graph.output if value.name not in inner]
    return found


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a control-flow node holds."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def rename_reads(node: onnx.NodeProto, old: str, new: str) -> None:
    """Change a name wherever a node or its subgraphs read it."""
    _rename(node.input, old, new)
    for graph in subgraphs(node):
        for child in graph.node:
            rename_reads(child, old, new)
        for value in graph.output:
            if value.name == old:
                value.name = new


def _rename(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain:
        return None
    entry = node.attribute[0]
    if entry.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(entry.t)
        return tensor
    kinds = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    if entry.name not in kinds:
        return None
    return numpy_helper.from_array(np.array(helper.get_attribute_value(entry), dtype=kinds[entry.name]))
