"""The recipes that are compared, each from the FP32 graph as it was exported to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.int8.blocks import quantise_blocks
from kniv.server.graphs import int8, tasks
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.pipeline import PASSES
from kniv.training.calibrate import Feed, ranges, sample_feeds
from kniv.training.quantise import quantise

SEED = "seed"
KEPT = 4  # products kept in float by the recipe that keeps the most sensitive ones
_SAMPLE = 20_000  # values a run of which percentiles are taken
_PROBES = 24  # rows on which sensitivity is measured

Ranges = Mapping[str, int8.Range]


@dataclass(frozen=True, slots=True)
class Source:
    """One model to quantise.

    Attributes:
        exported: its FP32 graph as exported.
        rewritten: the same after all passes but the last, which puts the heads into branches.
        folder: for what the candidates write.
        feeds: sample rows.
    """

    exported: Path
    rewritten: Path
    folder: Path
    feeds: Sequence[Feed]

    @classmethod
    def of(cls, exported: Path, folder: Path, feeds: Sequence[Feed]) -> Source:
        """Run the passes."""
        graph = Graph(onnx.load(exported))
        for step in PASSES:
            step(graph)
        graph.close()
        rewritten = folder / "rewritten.onnx"
        onnx.save(graph.model, rewritten)
        return cls(exported, rewritten, folder, feeds)

    def observed(self) -> tuple[str, ...]:
        """Activations that have a range."""
        return int8.observed(Graph(onnx.load(self.rewritten)))

    def ranges(self) -> dict[str, int8.Range]:
        """Their ranges on the sample rows."""
        return ranges(*self.looked_into(), self.feeds)

    def ranges_of_text(self) -> dict[str, int8.Range]:
        """Their ranges on the text that is shipped."""
        return ranges(*self.looked_into(), sample_feeds(self.exported.parent))

    def looked_into(self) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        """The rewritten model with its activations among the outputs, and their names."""
        names, model = self.observed(), onnx.load(self.rewritten)
        model.graph.output.extend([int8.tensor_info(name) for name in names])
        return model, names


def candidates(source: Source) -> dict[str, Callable[[Path], None]]:
    """What writes each candidate's file, by the candidate's name."""
    found = source.ranges()
    fixed = partial(write_fixed, source, found)
    return {
        "FP32, rewritten": lambda path: write(onnx.load(source.rewritten), path),
        SEED: partial(write_seed, source.exported, True),
        "seed, full range": partial(write_seed, source.exported, False),
        "row-wise": partial(quantise, source.exported),
        "row-wise, rewritten": partial(write_rowwise, source),
        "blocks of 64": partial(write_blocks, source, 64),
        "fixed, min/max": partial(fixed, smooth=False),
        "fixed, 99.99 %": lambda path: write_fixed(source, clipped(source, found, 99.99), path, smooth=False),
        "fixed, 99.9 %": lambda path: write_fixed(source, clipped(source, found, 99.9), path, smooth=False),
        "fixed, smoothed": fixed,
        "fixed, smoothed, shipped text": partial(write_fixed, source, source.ranges_of_text()),
        "fixed, smoothed, LSTMs in float": partial(write_fixed, source, without_lstms(source, found)),
        f"fixed, smoothed, {KEPT} in float": lambda path: write_fixed(source, without_sensitive(source, found), path),
    }


def write(model: onnx.ModelProto, path: Path) -> None:
    """Put the heads of a model into branches and save it."""
    graph = Graph(model)
    tasks.apply(graph)
    graph.close()
    onnx.save(model, path)


def write_seed(source: Path, reduce_range: bool, path: Path) -> None:
    """The published recipe, on the graph as exported."""
    quantize_dynamic(source, path, per_channel=True, reduce_range=reduce_range, weight_type=QuantType.QInt8)


def write_rowwise(source: Source, path: Path) -> None:
    """A scale a subword, found at run time."""
    quantise(source.rewritten, path)
    write(onnx.load(path), path)


def write_blocks(source: Source, size: int, path: Path) -> None:
    """Weights with a scale a block of a column."""
    graph = Graph(onnx.load(source.rewritten))
    quantise_blocks(graph, size)
    graph.close()
    write(graph.model, path)


def write_fixed(source: Source, found: Ranges, path: Path, *, smooth: bool = True) -> None:
    """Fixed ranges; what has none stays in float."""
    graph = Graph(onnx.load(source.rewritten))
    int8.quantise(graph, found, smooth=smooth)
    graph.close()
    write(graph.model, path)


def clipped(source: Source, found: Ranges, percent: float) -> Ranges:
    """The ranges without the outermost values of each activation."""
    model, names = source.looked_into()
    path = source.folder / "looked-into.onnx"
    onnx.save(model, path)
    running, random = _session(path), np.random.default_rng(0)
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for feed in source.feeds:
        for name, seen in zip(names, running.run(list(names), dict(feed)), strict=True):
            values[name].append(random.choice(seen.ravel(), min(seen.size, _SAMPLE), replace=False))
    tight = {}
    for name, seen in found.items():
        low, high = np.percentile(np.concatenate(values[name]), [100 - percent, percent])
        tight[name] = replace(
            seen, low=np.maximum(seen.low, np.float32(low)), high=np.minimum(seen.high, np.float32(high))
        )
    return tight


def without_lstms(source: Source, found: Ranges) -> Ranges:
    """The ranges of all activations that no LSTM reads."""
    read = {node.input[0] for node in Graph(onnx.load(source.rewritten)).nodes if node.op_type == "LSTM"}
    return {name: seen for name, seen in found.items() if name not in read}


def without_sensitive(source: Source, found: Ranges) -> Ranges:
    """The ranges without those whose rounding alone moves the answers most."""
    measured = sensitivity(source, found)
    most = sorted(measured, key=measured.__getitem__, reverse=True)[:KEPT]
    return {name: seen for name, seen in found.items() if name not in most}


def sensitivity(source: Source, found: Ranges) -> dict[str, float]:
    """How far rounding one activation and its weights alone moves the answers.

    Returns:
        The largest, over the outputs, of the moves' mean square over the output's own variance.
    """
    path, probes = source.folder / "probe.onnx", source.feeds[:_PROBES]
    exact = _answers(_session(source.rewritten), probes)
    moved = {}
    for name, seen in found.items():
        write_fixed(source, {name: seen}, path)
        pairs = zip(_answers(_session(path), probes), exact, strict=True)
        moved[name] = max(float(np.square(rounded - full).mean() / full.var()) for rounded, full in pairs)
    return moved


def _answers(running: ort.InferenceSession, feeds: Sequence[Feed]) -> list[NDArray[np.float32]]:
    names = ["pos_logits", "ner_logits", "arc_scores", "srl_logits", "cls_logits"]
    runs = [running.run(names, dict(feed)) for feed in feeds]
    return [np.concatenate([run[place].ravel() for run in runs]) for place in range(len(names))]


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
