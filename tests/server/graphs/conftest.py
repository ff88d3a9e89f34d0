"""Small cascades of random weights, as the published family exports them and as we do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the training extra")
pytest.importorskip("transformers", reason="needs the training extra")

import torch
from transformers import AutoModel, BertConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import transformers.models.deberta_v2.modeling_deberta_v2  # noqa: F401

from kniv.server.graphs.contract import TASKS, TASKS_INPUT
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.pipeline import optimise
from kniv.training.cascade import Cascade, CascadeConfig
from kniv.training.export import export_graph
from kniv.training.published import published_graph
from kniv.training.quantise import quantise
from kniv.training.reference import CLASSES, Shape, reference

VOCABULARY = 60
Feed = dict[str, NDArray[np.int64]]
Answers = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Source:
    """A graph to rewrite, with a session of it as it is."""

    path: Path
    session: ort.InferenceSession

    def load(self) -> onnx.ModelProto:
        return onnx.load(self.path)


def session(model: onnx.ModelProto | Path, disabled: Sequence[str] = ()) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(given, options, providers=providers, disabled_optimizers=list(disabled))


def run(running: ort.InferenceSession, feed: dict[str, NDArray[np.generic]]) -> Answers:
    """All outputs; those of a rewritten graph with the scores of all pairs, unless the feed says otherwise."""
    names = [node.name for node in running.get_outputs()]
    if any(node.name == TASKS_INPUT for node in running.get_overridable_initializers()):
        feed = {TASKS_INPUT: np.ones(len(TASKS), dtype=bool), **feed}
    return dict(zip(names, running.run(names, feed), strict=True))


def batch(seed: int, rows: int, length: int) -> Feed:
    """Rows of random subwords, the first ``length`` long and the others as long or shorter."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, length + 1, rows)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = random.integers(5, VOCABULARY - 5, (rows, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "predicate_idx": random.integers(0, lengths)}


def row(feed: Feed, index: int) -> Feed:
    """One row without its padding."""
    length = int(feed["attention_mask"][index].sum())
    return {
        "input_ids": feed["input_ids"][index : index + 1, :length],
        "attention_mask": feed["attention_mask"][index : index + 1, :length],
        "predicate_idx": feed["predicate_idx"][index : index + 1],
    }


def _published() -> onnx.ModelProto:
    return published_graph(Shape(64, 2, 4, 128, vocabulary=VOCABULARY), seed=1)


def _reference(path: Path) -> None:
    torch.manual_seed(1)
    export_graph(reference(Shape(64, 2, 4, 128, vocabulary=VOCABULARY)), path)


def _bert(path: Path) -> None:
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.2,
    )
    encoder = AutoModel.from_config(config, attn_implementation="eager", add_pooling_layer=False)
    classes = CascadeConfig(CLASSES.pos, CLASSES.ner, CLASSES.srl, CLASSES.cls, CLASSES.deprel)
    export_graph(Cascade(encoder, classes), path)


@pytest.fixture(scope="session")
def make_source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Source]:
    made: dict[str, Source] = {}

    def source(kind: str) -> Source:
        if kind not in made:
            path = tmp_path_factory.mktemp("graphs") / f"{kind}.onnx"
            with torch.random.fork_rng():
                if kind == "published":
                    onnx.save(_published(), path)
                else:
                    {"reference": _reference, "bert": _bert}[kind](path)
            made[kind] = Source(path, session(path))
        return made[kind]

    return source


def _folded(path: Path) -> Path:
    """The graph as a simplifier leaves it: what no input decides is one weight each, positions' products included."""
    model = onnx.load(path)
    graph = Graph(model)
    for node in list(graph.nodes):
        if node.op_type == "Identity" and node.input[0] in graph.weights:
            graph.redirect(node.output[0], node.input[0])
    graph.close()
    onnx.save(model, path.with_suffix(".folded"))
    return path.with_suffix(".folded")


@pytest.fixture(scope="session")
def make_int8(make_source: Callable[[str], Source]) -> Callable[[str], tuple[Source, Source]]:
    """A source by the published INT8 recipe, and the float source of it.

    ``positions``: made of a published graph whose exporter did not hide from the recipe that positions are products.
    """
    made: dict[str, Source] = {}

    def source(kind: str) -> tuple[Source, Source]:
        full = make_source("published" if kind == "positions" else kind)
        if kind not in made:
            path = full.path.with_name(f"{kind}-int8.onnx")
            quantise(_folded(full.path) if kind == "positions" else full.path, path, "published")
            made[kind] = Source(path, session(path))
        return made[kind], full

    return source


@pytest.fixture(params=["published", "reference", "bert"])
def source(request: pytest.FixtureRequest, make_source: Callable[[str], Source]) -> Source:
    return make_source(request.param)


@pytest.fixture(scope="session")
def optimised() -> dict[Path, ort.InferenceSession]:
    return {}


@pytest.fixture
def rewritten(source: Source, optimised: dict[Path, ort.InferenceSession]) -> ort.InferenceSession:
    """A session of the source after all passes."""
    if source.path not in optimised:
        optimised[source.path] = session(optimise(source.load()).model)
    return optimised[source.path]


@pytest.fixture
def published(make_source: Callable[[str], Source]) -> Source:
    return make_source("published")
