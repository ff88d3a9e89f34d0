"""The kniv cascade: one encoder, five heads, each head reading what the ones before it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kniv.server.repository.labels import Labels
from kniv.training.encoder import hidden_states
from kniv.training.heads import ClsHead, DepHead, NerHead, PosHead, ScalarMix, SrlHead

HEADS = ("pos", "ner", "dep", "srl", "cls")


@dataclass(frozen=True, slots=True)
class CascadeConfig:
    """What a cascade needs to know beyond its encoder.

    Attributes:
        pos, ner, srl, cls, deprel: number of classes of each head.
        dropout: dropout probability inside the heads (training only).
        use_lengths: give each row's length to the LSTMs, so that padding cannot reach an answer;
            the published graphs were made without.
    """

    pos: int
    ner: int
    srl: int
    cls: int
    deprel: int
    dropout: float = 0.25
    use_lengths: bool = True

    @classmethod
    def of(cls, labels: Labels, *, use_lengths: bool = True) -> CascadeConfig:
        """The configuration that fits a set of labels."""
        sizes = {name: len(getattr(labels, name)) for name in ("pos", "ner", "srl", "cls", "deprel")}
        return cls(**sizes, use_lengths=use_lengths)


class Outputs(NamedTuple):
    """The six outputs of the exported graph, in its order."""

    pos_logits: Tensor
    ner_logits: Tensor
    arc_scores: Tensor
    label_scores: Tensor
    srl_logits: Tensor
    cls_logits: Tensor


class Cascade(nn.Module):
    """Encoder, predicate embedding and heads.

    Args:
        encoder: a Hugging Face encoder with ``.embeddings`` and ``.encoder`` (BERT and DeBERTa-v2/v3
            families).
        config: class counts and head options.
    """

    def __init__(self, encoder: nn.Module, config: CascadeConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        hidden, layers = encoder.config.hidden_size, encoder.config.num_hidden_layers
        drop, lengths = config.dropout, config.use_lengths
        self.predicate = nn.Embedding(2, hidden)
        nn.init.normal_(self.predicate.weight, std=0.02)
        self.mixes = nn.ModuleDict({name: ScalarMix(layers + 1) for name in HEADS})
        self.pos = PosHead(hidden, config.pos, drop)
        self.ner = NerHead(hidden, config.pos, config.ner, drop, lengths)
        self.dep = DepHead(hidden, config.pos, config.ner, config.deprel, drop, lengths)
        self.srl = SrlHead(hidden, config.pos, config.deprel, config.srl, drop, lengths)
        self.cls = ClsHead(hidden, config.cls, drop)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, predicate_idx: Tensor) -> tuple[Tensor, ...]:
        """The L hidden states, each [B, S, H]; the first is the embedding with the predicate marked."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        marked = (positions[None, :] == predicate_idx[:, None]).long()
        return hidden_states(self.encoder, input_ids, attention_mask, self.predicate(marked))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, predicate_idx: Tensor) -> Outputs:
        """All six outputs, label scores at every pair, as the published graph gives them."""
        states = self.encode(input_ids, attention_mask, predicate_idx)
        pos, ner, arcs, dependent, head = self.tagged(states, attention_mask)
        labels = self.dep.labels_everywhere(dependent, head)
        index = arcs.argmax(-1)[..., None, None].expand(-1, -1, 1, labels.shape[-1])
        deprel = torch.gather(labels, 2, index)[:, :, 0]
        srl = self.roles(states, attention_mask, predicate_idx, pos, deprel)
        return Outputs(pos, ner, arcs, labels, srl, self.acts(states, attention_mask))

    def tagged(self, states: tuple[Tensor, ...], mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """POS and NER logits, arc scores and the two label projections."""
        pos = self.pos(self.mixes["pos"](states))
        pos_probs = probabilities(pos)
        ner = self.ner(self.mixes["ner"](states), pos_probs, mask)
        arcs, dependent, head = self.dep(self.mixes["dep"](states), pos_probs, probabilities(ner), mask)
        return pos, ner, arcs, dependent, head

    def roles(
        self, states: tuple[Tensor, ...], mask: Tensor, predicate_idx: Tensor, pos: Tensor, deprel: Tensor
    ) -> Tensor:
        """Role logits, given POS logits and the label scores at each word's best head."""
        mixed = self.mixes["srl"](states)
        return self.srl(mixed, predicate_idx, probabilities(pos), probabilities(deprel), mask)

    def acts(self, states: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """Dialog-act logits."""
        return self.cls(self.mixes["cls"](states), mask)


def probabilities(logits: Tensor) -> Tensor:
    """What one head hands to the next: probabilities that carry no gradient back."""
    return torch.softmax(logits, dim=-1).detach()


def parameter_count(model: nn.Module) -> int:
    """Number of trained numbers in a model."""
    return sum(parameter.numel() for parameter in model.parameters())
