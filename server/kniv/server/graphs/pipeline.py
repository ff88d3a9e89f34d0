"""All passes in their order, from a cascade graph as exported to the one that serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from kniv.server.graphs import (
    arcs,
    attention,
    constants,
    half,
    int8,
    lengths,
    masks,
    mixes,
    opset,
    products,
    relations,
    saturation,
    sizes,
    tasks,
)
from kniv.server.graphs.contract import TASKS_INPUT
from kniv.server.graphs.files import write_model
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.ranges import Range
from kniv.server.graphs.report import PassReport

Pass = Callable[[Graph], PassReport]
Calibrate = Callable[[onnx.ModelProto, tuple[str, ...]], Mapping[str, Range]]

PASSES: tuple[Pass, ...] = (
    opset.apply,
    constants.apply,
    products.apply,
    saturation.apply,
    lengths.apply,
    masks.apply,
    attention.apply,
    relations.apply,
    mixes.apply,
    arcs.apply,
    sizes.apply,
)


@dataclass(frozen=True, slots=True)
class Optimised:
    """A rewritten model.

    Attributes:
        model: the model; the one that was given, changed in place.
        report: what each pass did, in the order in which they ran.
    """

    model: onnx.ModelProto
    report: tuple[PassReport, ...]


def optimise(
    model: onnx.ModelProto,
    calibrate: Calibrate | None = None,
    passes: tuple[Pass, ...] = PASSES,
    halve: bool = False,
) -> Optimised:
    """Rewrite a cascade graph.

    Args:
        model: the model, its weights inside; it is changed in place, and weights that no pass changes are not copied.
        calibrate: gives the ranges of activations for an INT8 graph: it gets the float model with the named activations
            among its outputs, and returns the lowest and highest value of each on text of the kind to be served.
            Without it the graph stays in float.
        passes: what to run before quantising and putting the heads into branches.
        halve: put a float graph into half precision, for GPUs.
    """
    graph = Graph(model)
    if TASKS_INPUT in graph.inputs:
        fitted = saturation.apply(graph)  # which earlier ones of us did not see to
        if fitted.places:
            graph.close()
        return Optimised(model, (PassReport("all", 0, "the graph has been rewritten before"), fitted))
    report = [step(graph) for step in passes]
    if calibrate is not None:
        names = int8.observed(graph)
        if names:
            graph.close()
            ranges = calibrate(_looked_into(model, names), names)
            del model.graph.output[-len(names) :]
            graph = Graph(model)
            report.append(int8.quantise(graph, ranges))
        else:
            report.append(PassReport(int8.NAME, 0, "no product or LSTM in float"))
    if halve:
        report.append(half.apply(graph))
    report.append(tasks.apply(graph))
    graph.close()
    return Optimised(model, tuple(report))


def optimise_file(
    source: Path, target: Path, calibrate: Calibrate | None = None, halve: bool = False
) -> tuple[PassReport, ...]:
    """Rewrite the graph of one file into another; see :func:`optimise`. Takes about twice the file's size of memory."""
    done = optimise(onnx.load(source), calibrate, halve=halve)
    write_model(done.model, target)
    return done.report


def _looked_into(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    model.graph.output.extend([int8.tensor_info(name) for name in names])
    return model
