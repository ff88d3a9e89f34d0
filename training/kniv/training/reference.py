"""Random-weight cascades at the published family's shapes, for benchmarks: right shapes, meaningless answers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModel, DebertaV2Config

from kniv.training.cascade import HEADS, Cascade, CascadeConfig, parameter_count
from kniv.training.checkpoint import write_tensors
from kniv.training.export import OPSET, export_graph
from kniv.training.package import TASKS, write_metadata
from kniv.training.quantise import quantise
from kniv.training.rows import MAX_SUBWORDS


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a DeBERTa-v3 encoder: hidden size, layers, attention heads, feed-forward size, vocabulary."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int = 128100


SHAPES = {
    "xsmall": Shape(384, 12, 6, 1536),
    "small": Shape(768, 6, 12, 3072),
    "large": Shape(1024, 24, 16, 4096),
}
# Class counts of the family: UPOS, BIO over OntoNotes types, BIO over PropBank roles, dialog acts, UD relations.
CLASSES = CascadeConfig(pos=17, ner=37, srl=42, cls=8, deprel=53, use_lengths=False)


def reference(shape: Shape) -> Cascade:
    """A cascade of this shape with heads as published and whatever weights the current seed gives."""
    config = DebertaV2Config(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        vocab_size=shape.vocabulary,
        hidden_act="gelu",
        layer_norm_eps=1e-7,
        max_position_embeddings=512,
        max_relative_positions=-1,
        norm_rel_ebd="layer_norm",
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        position_buckets=256,
        relative_attention=True,
        share_att_key=True,
        type_vocab_size=0,
    )
    return Cascade(AutoModel.from_config(config, attn_implementation="eager"), CLASSES)


def write_reference(size: str, output: Path, seed: int, tokenizer: Path | None, int8: bool) -> None:
    """Write a reference model laid out as the published ones.

    Args:
        size: a key of :data:`SHAPES`.
        output: folder that receives onnx/cascade.onnx, model.pt and metadata.json.
        seed: of the random weights.
        tokenizer: folder whose tokenizer.json is copied along.
        int8: write onnx/cascade-int8.onnx too, by the published recipe.
    """
    torch.manual_seed(seed)
    model = reference(SHAPES[size]).eval()
    graph = output / "onnx" / "cascade.onnx"
    export_graph(model, graph)
    if int8:
        quantise(graph, graph.with_name("cascade-int8.onnx"), "published")
    write_tensors(output / "model.pt", model.state_dict())
    if tokenizer is not None:
        shutil.copyfile(tokenizer / "tokenizer.json", output / "tokenizer.json")
    facts = {
        "name": f"kniv-reference-{size}",
        "languages": ["en"],
        "tasks": {head: TASKS[head] for head in HEADS},
        "max_subwords": MAX_SUBWORDS,
        "opset": OPSET,
        "parameters": parameter_count(model),
        "weights": f"random, seed {seed}",
    }
    write_metadata(output, facts)
