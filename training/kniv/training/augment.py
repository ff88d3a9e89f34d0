"""Noise on training batches, so that answers survive careless typing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from tokenizers import Tokenizer
from torch import Tensor

from kniv.training.rows import IGNORED, Batch


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Probabilities of each kind of noise.

    Attributes:
        lowered: a row is given in lower case.
        masked: a subword of an utterance is replaced by [MASK] (dialog acts only).
    """

    lowered: float = 0.06
    masked: float = 0.06


@dataclass(frozen=True, slots=True)
class CaseFolder:
    """Maps each id of a cased vocabulary to its lower-case piece's id (itself where there is none).

    Attributes:
        lowered: int64 [V].
        mask: id of [MASK].
        special: largest id that noise leaves alone.
    """

    lowered: Tensor
    mask: int
    special: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> CaseFolder:
        """Read the mapping off a tokenizer's vocabulary."""
        ids = tokenizer.get_vocab()
        lowered = torch.arange(max(ids.values()) + 1)
        for piece, index in ids.items():
            lowered[index] = ids.get(piece if piece.startswith("[") else piece.lower(), index)
        specials = [ids[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in ids]
        return cls(lowered, ids["[MASK]"], max(specials))


def augment(batch: Batch, folder: CaseFolder, config: Augmentation) -> Batch:
    """A noisy copy of ``batch``; lengths and labels stay."""
    rows = torch.rand(len(batch.ids), 1) < config.lowered
    ids = torch.where(rows, folder.lowered[batch.ids], batch.ids)
    if (batch.act != IGNORED).all():
        noisy = (torch.rand(ids.shape) < config.masked) & (ids > folder.special)
        ids = torch.where(noisy, folder.mask, ids)
    return replace(batch, ids=ids)
