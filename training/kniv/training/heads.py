"""The five heads of the cascade and the layers that they share.

Shapes use B rows, S subwords, H hidden size, L hidden states, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kniv.training.lstm import BiLSTM

MASKED = -1e4  # finite, so that it survives FP16


class ScalarMix(nn.Module):
    """Softmax-weighted sum of L hidden states times a learned scale (Peters et al. 2018, eq. 1)."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(states))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, states: tuple[Tensor, ...]) -> Tensor:
        """L tensors [B, S, H] to one."""
        weights = torch.unbind(torch.softmax(self.weights, dim=0) * self.scale)
        mixed = weights[0] * states[0]
        for weight, state in zip(weights[1:], states[1:], strict=True):
            mixed = mixed + weight * state
        return mixed


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """Linear, LayerNorm, GELU: one side of a biaffine product."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.GELU())


class PosHead(nn.Module):
    """UPOS logits, [B, S, C]."""

    def __init__(self, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, classes)

    def forward(self, mixed: Tensor) -> Tensor:
        """Logits from mixed states [B, S, H]."""
        return self.output(self.dropout(mixed))


class NerHead(nn.Module):
    """BIO entity logits, [B, S, C], from the mixed states and the POS probabilities."""

    def __init__(self, hidden: int, pos: int, classes: int, dropout: float, use_lengths: bool) -> None:
        super().__init__()
        width = max(hidden // 4, 64)
        self.dropout = nn.Dropout(dropout)
        self.lstm = BiLSTM(hidden, width, use_lengths)
        self.back = nn.Linear(2 * width, hidden)
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden + pos),
            nn.Linear(hidden + pos, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, mixed: Tensor, pos: Tensor, mask: Tensor) -> Tensor:
        """Logits from mixed states [B, S, H], POS probabilities [B, S, P] and the mask [B, S]."""
        mixed = self.dropout(mixed)
        mixed = mixed + self.back(self.lstm(mixed, mask))
        return self.mlp(torch.cat([mixed, pos], dim=-1))


class DepHead(nn.Module):
    """Biaffine parser (Dozat & Manning 2017): arc scores [B, S, S] and label scores at any head.

    Row is the dependent, column the head; the root word's head is itself.
    """

    def __init__(self, hidden: int, pos: int, ner: int, classes: int, dropout: float, use_lengths: bool) -> None:
        super().__init__()
        width, arc, label = max(hidden // 4, 64), hidden // 2, hidden // 8
        self.dropout = nn.Dropout(dropout)
        self.input = nn.Sequential(nn.LayerNorm(hidden + pos + ner), nn.Linear(hidden + pos + ner, hidden), nn.GELU())
        self.lstm = BiLSTM(hidden, width, use_lengths)
        self.back = nn.Linear(2 * width, hidden)
        self.arc_dependent, self.arc_head = projection(hidden, arc), projection(hidden, arc)
        self.label_dependent, self.label_head = projection(hidden, label), projection(hidden, label)
        self.arc_weight = nn.Parameter(torch.empty(1, arc + 1, arc + 1))
        self.label_weight = nn.Parameter(torch.empty(classes, label + 1, label + 1))
        nn.init.normal_(self.arc_weight, std=0.02)
        nn.init.normal_(self.label_weight, std=0.02)

    def forward(self, mixed: Tensor, pos: Tensor, ner: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Arc scores [B, S, S] (padded columns masked) and the two label projections [B, S, H/8 + 1]."""
        values = self.input(torch.cat([self.dropout(mixed), pos, ner], dim=-1))
        values = self.dropout(values)
        values = self.dropout(values + self.back(self.lstm(values, mask)))
        dependent, head = with_bias(self.arc_dependent(values)), with_bias(self.arc_head(values))
        arcs = torch.matmul(torch.matmul(dependent, self.arc_weight[0]), head.transpose(1, 2))
        arcs = arcs + (1.0 - mask[:, None, :].to(arcs.dtype)) * MASKED
        return arcs, with_bias(self.label_dependent(values)), with_bias(self.label_head(values))

    def labels_at(self, dependent: Tensor, head: Tensor, heads: Tensor) -> Tensor:
        """Label scores at one head a dependent: [B, S, C] for ``heads`` int64 [B, S]."""
        chosen = torch.gather(head, 1, heads[..., None].expand(-1, -1, head.shape[-1]))
        # [B, S, C, d+1]: left product first, then a weighted row sum at the chosen head
        left = torch.einsum("bsi,cij->bscj", dependent, self.label_weight)
        return (left * chosen[:, :, None, :]).sum(-1)

    def labels_everywhere(self, dependent: Tensor, head: Tensor) -> Tensor:
        """Label scores at every pair, [B, S, S, C]."""
        # One product with a [d+1, C * (d+1)] matrix, so that the graph holds a plain MatMul that can be quantised.
        classes, width = self.label_weight.shape[:2]
        left = torch.matmul(dependent, self.label_weight.permute(1, 0, 2).reshape(width, classes * width))
        rows, length = dependent.shape[:2]
        scores = torch.matmul(left.reshape(rows, length * classes, width), head.transpose(1, 2))
        return scores.reshape(rows, length, classes, length).transpose(2, 3)


class SrlHead(nn.Module):
    """BIO role logits [B, S, C] for the one predicate marked in each row."""

    def __init__(self, hidden: int, pos: int, deprel: int, classes: int, dropout: float, use_lengths: bool) -> None:
        super().__init__()
        width, features = max(hidden // 2, 96), 4 * hidden + pos + deprel
        self.dropout = nn.Dropout(dropout)
        self.input = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, hidden), nn.GELU())
        self.lstm = BiLSTM(hidden, width, use_lengths)
        self.back = nn.Linear(2 * width, hidden)
        self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, classes))

    def forward(self, mixed: Tensor, predicate: Tensor, pos: Tensor, deprel: Tensor, mask: Tensor) -> Tensor:
        """Logits from mixed states, the marked subword [B], POS and relation probabilities [B, S, *], the mask."""
        mixed = self.dropout(mixed)
        index = predicate[:, None, None].expand(-1, 1, mixed.shape[-1])
        verb = torch.gather(mixed, 1, index).expand_as(mixed)
        features = [mixed, verb, mixed * verb, (mixed - verb).abs(), pos, deprel]
        values = self.dropout(self.input(torch.cat(features, dim=-1)))
        values = values + self.back(self.lstm(values, mask))
        return self.mlp(self.dropout(values))


class ClsHead(nn.Module):
    """Dialog-act logits [B, C] from attention-pooled states."""

    def __init__(self, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Linear(hidden, 1)
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, 2 * hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, mixed: Tensor, mask: Tensor) -> Tensor:
        """Logits from mixed states [B, S, H] and the mask [B, S]."""
        scores = self.attention(mixed)[..., 0]
        scores = scores + (1.0 - mask.to(scores.dtype)) * MASKED
        pooled = torch.matmul(torch.softmax(scores, dim=-1)[:, None, :], mixed)[:, 0]
        return self.mlp(pooled)


def with_bias(values: Tensor) -> Tensor:
    """Append a column of ones, so that a bilinear product carries its bias terms."""
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
