"""The two models that are measured: kniv-mini, and random weights at the published small's shape."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from benchmarks.server.texts import documents
from kniv.server.pipeline.encode import Encoder
from kniv.server.pipeline.segment import sentences
from kniv.server.pipeline.words import words
from kniv.server.repository.labels import Labels
from kniv.server.repository.metadata import Metadata

_ROOT = Path(__file__).resolve().parents[2]
_GRAPH = "cascade-int8.onnx"
_SMALL = "kniv-reference-small"
_VERBS = 0.11  # of words; UD EWT has as many
_SAMPLE = 40  # documents whose verbs are counted


@dataclass(frozen=True, slots=True)
class Model:
    """A model in a repository.

    Attributes:
        repository: the repository's folder.
        name: the model's.
    """

    repository: Path
    name: str

    @property
    def folder(self) -> Path:
        """Its one version."""
        return self.repository / self.name / "1"

    @property
    def graph(self) -> Path:
        """The graph that is served and that bare runs are made of."""
        return self.folder / _GRAPH

    def encoder(self) -> Encoder:
        """Its tokenizer."""
        return Encoder(self.folder / "tokenizer.json", Metadata.load(self.folder / "metadata.json"))

    def labels(self) -> Labels:
        """Its label lists."""
        return Labels.load(self.folder / "labels.json")


def mini() -> Model:
    """The embedded model."""
    return Model(_ROOT / "model_repository", "kniv-mini")


def small(work: Path, data: Path) -> Model:
    """The published small's shape and INT8 recipe; made once, which takes a minute, and kept in ``work``."""
    model = Model(work / "repository", _SMALL)
    if not model.graph.is_file():
        print(f"making {_SMALL}, once", file=sys.stderr)
        making = Model(work / "making", _SMALL)
        shutil.rmtree(making.folder, ignore_errors=True)
        _make(making, data)
        shutil.rmtree(model.folder, ignore_errors=True)
        model.folder.parent.mkdir(parents=True, exist_ok=True)
        making.folder.rename(model.folder)
    return model


def _make(model: Model, data: Path) -> None:
    import torch

    from kniv.training.export import export_graph
    from kniv.training.quantise import quantise
    from kniv.training.reference import SHAPES, reference

    torch.manual_seed(17)
    full = model.folder / "cascade.onnx"
    export_graph(reference(SHAPES["small"]), full)
    quantise(full, model.graph, "published")
    full.unlink()
    shutil.copy(data / "deberta-v3-tokenizer" / "tokenizer.json", model.folder)
    shutil.copy(mini().folder / "labels.json", model.folder)
    (model.folder / "metadata.json").write_text(json.dumps({"name": model.name}), encoding="utf-8")
    _find_verbs(model, documents(data, _SAMPLE, longest=400, seed=17))


def _find_verbs(model: Model, texts: list[str]) -> None:
    """Raise the bias of VERB until as many words are verbs as in English: each verb is one more row for the roles."""
    encoder, verb = model.encoder(), model.labels().pos.index("VERB")
    session = ort.InferenceSession(str(model.graph), providers=["CPUExecutionProvider"])
    margins = []
    for sentence in (one for text in texts for one in sentences(text)):
        for window in encoder.windows([sentence.text[word.start : word.end] for word in words(sentence.text)]):
            ids = window.ids[None]
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "predicate_idx": np.zeros(1, dtype=np.int64)}
            logits = session.run(["pos_logits"], feed)[0][0, window.first]
            margins.append(np.delete(logits, verb, axis=1).max(1) - logits[:, verb])
    graph = onnx.load(model.graph)
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == "pos.output.bias")
    values = numpy_helper.to_array(bias).copy()
    values[verb] += np.quantile(np.concatenate(margins), _VERBS)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(graph, model.graph)
