"""A version folder with a small cascade of random weights, for tests of everything but quality."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, BertConfig

from kniv.server.repository.labels import Labels
from kniv.training.cascade import Cascade, CascadeConfig
from kniv.training.export import export_graph
from kniv.training.quantise import quantise


def write_tiny_model(folder: Path, source: Path) -> None:
    """Write a cascade of 32 dimensions and one layer with the tokenizer, labels and limits of ``source``."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "labels.json"):
        shutil.copy(source / name, folder / name)
    facts = json.loads((source / "metadata.json").read_text(encoding="utf-8"))
    del facts["sha256"]  # of other graphs
    (folder / "metadata.json").write_text(json.dumps(facts), encoding="utf-8")
    labels = Labels.load(folder / "labels.json")
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    config = BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.manual_seed(7)
        encoder = AutoModel.from_config(config, attn_implementation="eager", add_pooling_layer=False)
        export_graph(Cascade(encoder, CascadeConfig.of(labels)), folder / "cascade.onnx")
    quantise(folder / "cascade.onnx", folder / "cascade-int8.onnx")
