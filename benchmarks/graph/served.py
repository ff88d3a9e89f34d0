"""A repository of the published files, as their user has it: what the server makes of them is its own affair."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from benchmarks.graph.files import Graphs
from benchmarks.server.models import Model, mini
from benchmarks.server.texts import documents
from kniv.server.pipeline.segment import sentences
from kniv.server.pipeline.words import words

NAME = "kniv-published-small"

_VERBS = 0.11  # of words; UD EWT has as many
_SAMPLE = 15  # documents whose verbs are counted
_FILES = {"published FP32": "cascade.onnx", "published INT8": "cascade-int8.onnx"}
_BIAS = "pos.output.bias"


@dataclass(frozen=True, slots=True)
class Served:
    """What the server and the quick start are given.

    Attributes:
        model: a model whose one version holds the published files.
        published: the same files, by their names among the graphs.
    """

    model: Model
    published: dict[str, Path]


def repository(graphs: Graphs, work: Path, data: Path, remake: bool) -> Served:
    """Lay the published graphs out as a model, once; random weights are made to find as many verbs as English has.

    Args:
        graphs: of the small size.
        work: folder of the repository.
        data: folder of the corpora, with the published tokenizer; to a small vocabulary it is cut.
        remake: whether cascade-int8.onnx is made of cascade.onnx by ``kniv-serve optimise --int8``, in place of the
            published one.
    """
    folder = work / (graphs.paths["ours INT8" if remake else "published INT8"].stem)
    model, kept = Model(folder / "repository", NAME), folder / "published"
    published = {variant: kept / name for variant, name in _FILES.items()}
    done = folder / "done"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        kept.mkdir(parents=True)
        model.folder.mkdir(parents=True)
        _tokenizer(graphs, model.folder, data)
        shutil.copy(mini().folder / "labels.json", model.folder)
        (model.folder / "metadata.json").write_text(json.dumps({"name": NAME}), encoding="utf-8")
        raised = _margin(graphs.paths["published INT8"], model, data)
        for variant, path in published.items():
            _raise_verbs(graphs.paths[variant], path, raised, model.labels().pos.index("VERB"))
            (model.folder / path.name).hardlink_to(path)
        if remake:
            model.graph.unlink()
            command = [sys.executable, "-m", "kniv.server", "optimise", str(model.folder), "--int8"]
            subprocess.run(command, check=True, stdout=sys.stderr)
        done.touch()
    return Served(model, published)


def _tokenizer(graphs: Graphs, folder: Path, data: Path) -> None:
    """The published tokenizer, cut to its most frequent pieces where the graph knows fewer."""
    source = data / "deberta-v3-tokenizer" / "tokenizer.json"
    facts = json.loads(source.read_text(encoding="utf-8"))
    pieces = facts["model"]["vocab"]
    if len(pieces) >= graphs.vocabulary:
        del pieces[graphs.vocabulary - 1 :]
        for token in facts["added_tokens"]:
            token["id"] = min(token["id"], len(pieces))
    (folder / "tokenizer.json").write_text(json.dumps(facts), encoding="utf-8")


def _margin(graph: Path, model: Model, data: Path) -> float:
    """What VERB's score lacks for as many words to be verbs as in English: each is one more row for the roles."""
    encoder, verb = model.encoder(), model.labels().pos.index("VERB")
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    margins = []
    for sentence in (one for text in documents(data, _SAMPLE, longest=400, seed=17) for one in sentences(text)):
        for window in encoder.windows([sentence.text[word.start : word.end] for word in words(sentence.text)]):
            ids = window.ids[None]
            given = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "predicate_idx": np.zeros(1, dtype=np.int64),
            }
            logits = session.run(["pos_logits"], given)[0][0, window.first]
            margins.append(np.delete(logits, verb, axis=1).max(1) - logits[:, verb])
    return float(np.quantile(np.concatenate(margins), _VERBS))


def _raise_verbs(source: Path, target: Path, raised: float, verb: int) -> None:
    graph = onnx.load(source)
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith(_BIAS))
    values = numpy_helper.to_array(bias).copy()
    values[verb] += raised
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(graph, target)
