"""The cascade's training loss on one batch of either kind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kniv.training.cascade import Cascade
from kniv.training.rows import IGNORED, Batch


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each head's mean cross-entropy.

    Attributes:
        marked: factor on every head but SRL in rows that mark a predicate: such rows repeat their
            sentence once a predicate.
    """

    pos: float = 1.0
    ner: float = 1.0
    arc: float = 1.0
    deprel: float = 1.0
    srl: float = 1.5
    cls: float = 1.0
    marked: float = 0.4


def losses(model: Cascade, batch: Batch, weights: LossWeights) -> dict[str, Tensor]:
    """Weighted losses by head; only what the batch has labels for is computed."""
    states = model.encode(batch.ids, batch.mask, batch.predicate)
    if not batch.layers:
        logits = model.acts(states, batch.mask)
        return {"cls": weights.cls * F.cross_entropy(logits.float(), batch.act)}
    pos, ner, arcs, dependent, head = model.tagged(states, batch.mask)
    factor = weights.marked if "srl" in batch.layers else 1.0
    gold_heads = batch.layers["head"]
    gold_labels = model.dep.labels_at(dependent, head, gold_heads.clamp(min=0))
    parts = {
        "pos": factor * weights.pos * _mean(pos, batch.layers["pos"]),
        "ner": factor * weights.ner * _mean(ner, batch.layers["ner"]),
        "arc": factor * weights.arc * _mean(arcs, gold_heads),
        "deprel": factor * weights.deprel * _mean(gold_labels, batch.layers["deprel"]),
    }
    if "srl" in batch.layers:
        with torch.no_grad():
            best = model.dep.labels_at(dependent, head, arcs.argmax(-1))
        roles = model.roles(states, batch.mask, batch.predicate, pos, best)
        parts["srl"] = weights.srl * _mean(roles, batch.layers["srl"])
    return parts


def _mean(logits: Tensor, gold: Tensor) -> Tensor:
    """Mean cross-entropy over labelled positions; zero where a batch has none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), gold.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (gold != IGNORED).sum().clamp(min=1)
