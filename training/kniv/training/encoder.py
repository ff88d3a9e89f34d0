"""Running a Hugging Face encoder with the predicate embedding added to its input."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn


def hidden_states(encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor, added: Tensor) -> tuple[Tensor, ...]:
    """All hidden states of ``encoder``, the embedding first, with ``added`` put onto the embedding.

    Args:
        encoder: model with ``.embeddings`` and ``.encoder``, attention implementation "eager".
        input_ids: int64 [B, S].
        attention_mask: int64 [B, S], 1 at subwords and 0 at padding.
        added: float [B, S, H].

    Returns:
        num_hidden_layers + 1 tensors [B, S, H].
    """
    if "mask" in inspect.signature(encoder.embeddings.forward).parameters:  # DeBERTa zeroes padded positions
        hidden = encoder.embeddings(input_ids=input_ids, mask=attention_mask) + added
    else:
        hidden = encoder.embeddings(input_ids=input_ids) + added
    stack = encoder.encoder
    if "output_hidden_states" in inspect.signature(stack.forward).parameters:  # the DeBERTa family
        return tuple(stack(hidden, attention_mask, output_hidden_states=True, return_dict=True).hidden_states)
    # The BERT family no longer hands out its states: walk its layers, with the additive mask they expect.
    mask = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(torch.float16).min
    states = [hidden]
    for layer in stack.layer:
        output = layer(states[-1], mask)
        states.append(output[0] if isinstance(output, tuple) else output)
    return tuple(states)
