from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kniv.training.cascade import Cascade, parameter_count
from kniv.training.reference import CLASSES, SHAPES, Shape, reference


def test_small_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = reference(SHAPES["small"])
    assert parameter_count(model) == 157_068_769
    assert parameter_count(model.encoder) == 141_304_320


def test_outputs_have_the_stated_shapes() -> None:
    model = reference(Shape(64, 2, 4, 128, vocabulary=50)).eval()
    with torch.no_grad():
        outputs = model(torch.randint(1, 50, (3, 11)), torch.ones(3, 11, dtype=torch.long), torch.tensor([0, 4, 10]))
    assert [tuple(output.shape) for output in outputs] == [
        (3, 11, 17),
        (3, 11, 37),
        (3, 11, 11),
        (3, 11, 11, 53),
        (3, 11, 42),
        (3, 8),
    ]
    assert not CLASSES.use_lengths


@settings(max_examples=15, deadline=None)
@given(data=st.data(), length=st.integers(2, 20))
def test_labels_everywhere_and_at_a_head_agree(data: st.DataObject, length: int) -> None:
    model = reference(Shape(64, 1, 4, 64, vocabulary=50)).eval()
    torch.manual_seed(data.draw(st.integers(0, 999)))
    dependent, head = torch.randn(2, length, 9), torch.randn(2, length, 9)
    heads = torch.randint(0, length, (2, length))
    everywhere = model.dep.labels_everywhere(dependent, head)
    chosen = torch.gather(everywhere, 2, heads[..., None, None].expand(-1, -1, 1, 53))[:, :, 0]
    torch.testing.assert_close(model.dep.labels_at(dependent, head, heads), chosen)


def test_marking_a_predicate_changes_the_answer_but_zero_marks_the_first(tiny: Cascade) -> None:
    ids, mask = torch.randint(5, 30, (1, 6)), torch.ones(1, 6, dtype=torch.long)
    with torch.no_grad():
        first, third = (tiny(ids, mask, torch.tensor([place])).srl_logits for place in (0, 3))
    assert not torch.allclose(first, third)


def test_what_one_head_hands_on_carries_no_gradient(tiny: Cascade) -> None:
    ids, mask = torch.randint(5, 30, (1, 6)), torch.ones(1, 6, dtype=torch.long)
    tiny(ids, mask, torch.tensor([2])).ner_logits.sum().backward()
    assert tiny.pos.output.weight.grad is None
    assert tiny.ner.mlp[1].weight.grad is not None


@pytest.mark.parametrize("size", SHAPES)
def test_every_published_shape_can_be_built(size: str) -> None:
    with torch.device("meta"):
        model = reference(SHAPES[size])
    assert model.encoder.config.num_hidden_layers == SHAPES[size].layers
