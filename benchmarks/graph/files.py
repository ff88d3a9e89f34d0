"""The graphs that are compared: made once from random weights and kept until what makes them changes."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, flock
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kniv.server.graphs.pipeline import Calibrate

PUBLISHED = ("published FP32", "published INT8")
OURS = ("ours FP32", "ours INT8")

Feed = dict[str, NDArray[np.generic]]

_MINI_VOCABULARY = 36_000
_PUBLISHED_BY = ("published", "reference", "cascade", "heads", "lstm", "encoder", "export", "quantise")
_SAMPLES = 4  # rows that find the ranges of activations; with random weights a few tell as much as many


@dataclass(frozen=True, slots=True)
class Graphs:
    """The four files of one size.

    Attributes:
        size: ``mini`` or one of the published family's.
        vocabulary: entries of the embedding table.
        paths: the files, by their names in :data:`PUBLISHED` and :data:`OURS`.
    """

    size: str
    vocabulary: int
    paths: Mapping[str, Path]


def graphs(folder: Path, size: str, vocabulary: int | None = None) -> Graphs:
    """All four graphs of a size; those that are missing are made, which takes a minute or two.

    Args:
        folder: where they are kept.
        size: ``mini`` (a BERT encoder, exported by kniv-train) or one of the published family's (as published).
        vocabulary: entries of the embedding table; the published number if None.
    """
    entries = vocabulary or _vocabulary(size)
    folder.mkdir(parents=True, exist_ok=True)
    names = {variant: f"{size}-{entries}-{variant.replace(' ', '-').lower()}" for variant in PUBLISHED + OURS}
    paths = {variant: folder / f"{name}-{_digest(ours=variant in OURS)}.onnx" for variant, name in names.items()}
    full = paths["published FP32"]
    with (folder / ".lock").open("w") as lock:
        flock(lock, LOCK_EX)  # another benchmark may be making them
        _made(full, lambda path: onnx.save(_source(size, entries), path))
        _made(paths["published INT8"], lambda path: _published_int8(full, path))
        _made(paths["ours FP32"], lambda path: _rewrite(full, path, entries, int8=False))
        _made(paths["ours INT8"], lambda path: _rewrite(full, path, entries, int8=True))
    return Graphs(size, entries, paths)


def half(found: Graphs) -> Path:
    """Our FP16 graph, made beside the others."""
    from kniv.server.graphs.pipeline import optimise_file

    ours = found.paths["ours FP32"]
    path = ours.with_name(ours.name.replace("fp32", "fp16"))
    _made(path, lambda made: optimise_file(found.paths["published FP32"], made, halve=True))
    return path


def feed(rows: int, length: int, vocabulary: int, seed: int = 0) -> Feed:
    """Inputs of one run without padding."""
    ids = np.random.default_rng(seed).integers(5, vocabulary, (rows, length))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "predicate_idx": np.ones(rows, dtype=np.int64),
    }


def calibrated(vocabulary: int) -> Calibrate:
    """What finds the ranges of a graph's activations."""
    from kniv.training.calibrate import ranges

    samples = [feed(1, 24, vocabulary, seed) for seed in range(_SAMPLES)]
    return lambda model, names: ranges(model, names, samples)


def pytorch(size: str, vocabulary: int) -> Callable[[Feed], object]:
    """The PyTorch model that the published graph of this size is an export of, in FP32 and inference mode."""
    import torch

    ready = model(size, vocabulary).eval()

    def run(given: Feed) -> object:
        with torch.inference_mode():
            return ready(*(torch.from_numpy(value) for value in given.values()))

    return run


def _vocabulary(size: str) -> int:
    if size == "mini":
        return _MINI_VOCABULARY
    from kniv.training.published import PUBLISHED_SHAPES

    return PUBLISHED_SHAPES[size].vocabulary


def _source(size: str, vocabulary: int) -> onnx.ModelProto:
    if size == "mini":
        from kniv.training.export import export_graph

        with tempfile.TemporaryDirectory() as made:
            export_graph(model(size, vocabulary), Path(made) / "mini.onnx")
            return onnx.load(Path(made) / "mini.onnx")
    from kniv.training.published import PUBLISHED_SHAPES, published_graph

    return published_graph(replace(PUBLISHED_SHAPES[size], vocabulary=vocabulary))


def model(size: str, vocabulary: int) -> Any:
    """The PyTorch model; PyTorch is imported where it is needed, as it takes seconds."""
    import torch
    from transformers import AutoModel, BertConfig

    from kniv.training.cascade import Cascade, CascadeConfig
    from kniv.training.published import PUBLISHED_SHAPES, PublishedCascade
    from kniv.training.reference import CLASSES, reference

    torch.manual_seed(0)
    if size != "mini":
        return PublishedCascade(reference(replace(PUBLISHED_SHAPES[size], vocabulary=vocabulary)))
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    encoder = AutoModel.from_config(config, attn_implementation="eager", add_pooling_layer=False)
    return Cascade(encoder, CascadeConfig(CLASSES.pos, CLASSES.ner, CLASSES.srl, CLASSES.cls, CLASSES.deprel))


def _published_int8(source: Path, target: Path) -> None:
    from kniv.training.quantise import quantise

    quantise(source, target, "published")


def _rewrite(source: Path, target: Path, vocabulary: int, int8: bool) -> None:
    from kniv.server.graphs.pipeline import optimise_file

    optimise_file(source, target, calibrated(vocabulary) if int8 else None)


def _made(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_file():
        return
    begun = time.monotonic()
    unfinished = path.with_suffix(".making")
    make(unfinished)
    stem = path.stem.rpartition("-")[0]
    for old in path.parent.glob(f"{stem}-*.onnx"):
        old.unlink()
    unfinished.rename(path)
    print(f"made {path.name} in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _digest(ours: bool) -> str:
    """Of the code that makes a graph."""
    sources = [_module(f"kniv.training.{name}") for name in _PUBLISHED_BY]
    if ours:
        sources += sorted(_module("kniv.server.graphs").parent.glob("*.py"))
        sources.append(_module("kniv.training.calibrate"))
    content = ort.__version__.encode() + b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(content).hexdigest()[:8]


def _module(name: str) -> Path:
    found = find_spec(name)
    assert found is not None and found.origin is not None
    return Path(found.origin)
