"""Graphs shaped like the published family's files, with random weights: what the graph passes are held to.

``reference`` exports our own, tidier tracing of the same cascade. This module traces it the way the published files
were made (opset 14, one padded row of 128 subwords, no lengths for the LSTMs, no mask on the arc scores, ``Einsum`` for
both biaffine products), so that what the passes meet in the field is what their tests and benchmarks hold.
"""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from torch import Tensor, nn

from kniv.training.cascade import Cascade, Outputs
from kniv.training.export import _AXES, _OUTPUT_AXES, INPUTS
from kniv.training.heads import DepHead, ScalarMix, SrlHead
from kniv.training.reference import SHAPES, Shape, reference

PUBLISHED_SHAPES = SHAPES | {"base": Shape(768, 12, 12, 3072)}

_OPSET = 14
_TRACED = (1, 128)  # rows and subwords of the traced call
_MASKED = -1e9


class PublishedCascade(nn.Module):
    """A cascade run as the published files run it; parameters are those of ``cascade``."""

    def __init__(self, cascade: Cascade) -> None:
        super().__init__()
        self.cascade = cascade

    def forward(self, input_ids: Tensor, attention_mask: Tensor, predicate_idx: Tensor) -> Outputs:
        """All six outputs, label scores at every pair."""
        cascade, encoder = self.cascade, self.cascade.encoder
        marked = torch.zeros_like(input_ids).scatter_(1, predicate_idx[:, None], 1)
        embedded = encoder.embeddings(input_ids) + cascade.predicate(marked)
        states = encoder.encoder(embedded, attention_mask, output_hidden_states=True).hidden_states
        mixed = {name: _mixed(mix, states) for name, mix in cascade.mixes.items()}
        pos = cascade.pos.output(mixed["pos"])
        pos_probs = torch.softmax(pos, -1)
        ner_values = cascade.ner.back(cascade.ner.lstm.lstm(mixed["ner"])[0]) + mixed["ner"]
        ner = cascade.ner.mlp(torch.cat([ner_values, pos_probs], -1))
        dep_values = torch.cat([mixed["dep"], pos_probs, torch.softmax(ner, -1)], -1)
        arcs, labels = _biaffine(cascade.dep, dep_values)
        srl = _roles(cascade.srl, mixed["srl"], predicate_idx, pos_probs, _at_best_head(arcs, labels))
        scores = cascade.cls.attention(mixed["cls"]).squeeze(-1).masked_fill(~attention_mask.bool(), _MASKED)
        pooled = (mixed["cls"] * torch.softmax(scores, -1).unsqueeze(-1)).sum(1)
        return Outputs(pos, ner, arcs, labels, srl, cascade.cls.mlp(pooled))


def published_graph(shape: Shape, seed: int = 0, outliers: int = 0) -> onnx.ModelProto:
    """A graph of this shape as the published files have it.

    Args:
        shape: dimensions of the encoder.
        seed: of the random weights; of a size at which every term of the arithmetic tells, biases and norms included.
        outliers: hidden channels whose values are made twenty times the others' size in every layer.

    Returns:
        The model, weights inside.
    """
    torch.manual_seed(seed)
    model = reference(shape).eval()
    _enliven(model, outliers)
    ids = torch.zeros(_TRACED, dtype=torch.long)
    ids[:, :6] = torch.arange(1, 7)
    sample = (ids, (ids > 0).long(), torch.ones(_TRACED[0], dtype=torch.long))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            PublishedCascade(model),
            sample,
            buffer,
            input_names=list(INPUTS),
            output_names=list(Outputs._fields),
            dynamic_axes=_AXES | _OUTPUT_AXES,
            opset_version=_OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def _enliven(model: Cascade, outliers: int) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            elif parameter.ndim == 1 and name.endswith("weight") and not name.startswith("encoder.encoder.rel"):
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
            elif parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
        for mix in model.mixes.values():
            mix.weights.normal_()
        channels = torch.randperm(model.predicate.weight.shape[1])[:outliers]
        for layer in model.encoder.encoder.layer:
            layer.output.LayerNorm.weight[channels] *= 20


def _mixed(mix: ScalarMix, states: tuple[Tensor, ...]) -> Tensor:
    weights = torch.softmax(mix.weights, dim=0)
    total = weights[0] * states[0]
    for weight, state in zip(weights[1:], states[1:], strict=True):
        total = total + weight * state
    return mix.scale * total


def _biaffine(dep: DepHead, values: Tensor) -> tuple[Tensor, Tensor]:
    values = dep.input(values)
    values = dep.back(dep.lstm.lstm(values)[0]) + values
    arcs = _pairs(dep.arc_dependent(values), dep.arc_weight, dep.arc_head(values)).squeeze(1).contiguous()
    labels = _pairs(dep.label_dependent(values), dep.label_weight, dep.label_head(values))
    return arcs, labels.permute(0, 2, 3, 1).contiguous()


def _pairs(dependent: Tensor, weight: Tensor, head: Tensor) -> Tensor:
    one = torch.ones(*dependent.shape[:2], 1)
    left, right = torch.cat([dependent, one], -1), torch.cat([head, one], -1)
    return torch.einsum("bxi,oij,byj->boxy", left, weight, right)


def _at_best_head(arcs: Tensor, labels: Tensor) -> Tensor:
    rows, length, _, classes = labels.shape
    best = arcs.argmax(-1).clamp(min=0)[..., None, None].expand(rows, length, 1, classes)
    return torch.softmax(labels.gather(2, best).squeeze(2), -1)


def _roles(srl: SrlHead, mixed: Tensor, predicate: Tensor, pos: Tensor, relations: Tensor) -> Tensor:
    index = predicate.view(-1, 1, 1).expand(mixed.shape[0], 1, mixed.shape[-1])
    verb = mixed.gather(1, index).expand_as(mixed)
    values = srl.input(torch.cat([mixed, verb, mixed * verb, (mixed - verb).abs(), pos, relations], -1))
    return srl.mlp(srl.back(srl.lstm.lstm(values)[0]) + values)
