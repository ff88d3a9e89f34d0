"""Checkpoints: one folder a run, written whole or not at all, loadable without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel

from kniv.server.repository.labels import Labels
from kniv.training.cascade import Cascade, CascadeConfig
from kniv.training.vocabulary import CasedEmbedding

CASED = "encoder.embeddings.word_embeddings.lower_of"


def save_model(folder: Path, model: Cascade, labels: Labels, tokenizer: Tokenizer) -> None:
    """Write model.pt (flat state dict), encoder.json, cascade.json, labels.json and tokenizer.json to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.json").write_text(model.encoder.config.to_json_string(use_diff=False), encoding="utf-8")
    (folder / "cascade.json").write_text(json.dumps(asdict(model.config), indent=1) + "\n", encoding="utf-8")
    (folder / "labels.json").write_text(labels.to_json(), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tensors(folder / "model.pt", model.state_dict())


def load_model(folder: Path) -> tuple[Cascade, Labels, Tokenizer]:
    """Rebuild what :func:`save_model` wrote.

    Raises:
        FileNotFoundError: a file of the checkpoint is absent.
        RuntimeError: the weights do not fit the configuration.
    """
    labels = Labels.load(folder / "labels.json")
    config = CascadeConfig(**json.loads((folder / "cascade.json").read_text(encoding="utf-8")))
    weights = torch.load(folder / "model.pt", weights_only=True, map_location="cpu")
    encoder_config = AutoConfig.for_model(**json.loads((folder / "encoder.json").read_text(encoding="utf-8")))
    encoder = AutoModel.from_config(encoder_config, attn_implementation="eager")
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    if CASED in weights:
        prefix = CASED.removesuffix("lower_of")
        rows, hidden = weights[prefix + "pieces.weight"].shape
        encoder.embeddings.word_embeddings = CasedEmbedding(
            weights[prefix + "lower_of"].tolist(), weights[prefix + "case_of"].tolist(), rows, hidden
        )
    model = Cascade(encoder, config)
    model.load_state_dict(weights)
    return model, labels, Tokenizer.from_file(str(folder / "tokenizer.json"))


def write_tensors(path: Path, tensors: dict[str, Any] | dict[str, Tensor]) -> None:
    """``torch.save`` that an interruption cannot leave half done."""
    partial = path.with_suffix(".partial")
    torch.save(tensors, partial)
    partial.replace(path)
