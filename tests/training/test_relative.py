from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from kniv.server.repository.labels import Labels
from kniv.training.cascade import Cascade
from kniv.training.checkpoint import load_model, save_model
from kniv.training.relative import with_relative_positions

from .conftest import tiny_cascade


def answers(model: Cascade) -> list[torch.Tensor]:
    ids = torch.arange(5, 23).reshape(2, 9)
    with torch.no_grad():
        return list(model.eval()(ids, torch.ones_like(ids), torch.tensor([1, 4])))


def test_without_relative_positions_it_is_the_old_encoder_at_one_position() -> None:
    model = tiny_cascade()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        positions = model.encoder.embeddings.position_embeddings.weight
        positions.copy_(positions[:64].mean(0).expand_as(positions))
    before = answers(model)
    made = with_relative_positions(model)
    assert made.encoder.config.model_type == "deberta-v2"
    with torch.no_grad():
        made.encoder.encoder.LayerNorm.weight.zero_()
    for old, new in zip(before, answers(made), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)


def test_relative_positions_tell() -> None:
    made = with_relative_positions(tiny_cascade())
    before = answers(made)
    with torch.no_grad():
        made.encoder.encoder.rel_embeddings.weight.normal_()
    assert (answers(made)[0] - before[0]).abs().max() > 1e-3


def test_checkpoint_gives_it_back(labels: Labels, tokenizer: Tokenizer, tmp_path: Path) -> None:
    made = with_relative_positions(tiny_cascade())
    save_model(tmp_path, made, labels, tokenizer)
    for old, new in zip(answers(made), answers(load_model(tmp_path)[0]), strict=True):
        torch.testing.assert_close(new, old)


def test_a_deberta_has_them_already() -> None:
    with pytest.raises(ValueError, match="deberta-v2"):
        with_relative_positions(with_relative_positions(tiny_cascade()))
