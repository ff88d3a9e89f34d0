"""A published checkpoint, scaled down: DeBERTa-v3's vocabulary and structure, few dimensions, random weights."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from kniv.training.cascade import Cascade
from kniv.training.reference import Shape, reference

SHAPE = Shape(hidden=64, layers=2, heads=1, inner=128)


def published_model(seed: int = 3) -> Cascade:
    """The model."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.manual_seed(seed)
        return reference(SHAPE).eval()


def published_state(seed: int = 3) -> dict[str, Tensor]:
    """Its flat state dict."""
    return dict(published_model(seed).state_dict())
