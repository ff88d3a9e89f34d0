"""From a BERT encoder to DeBERTa's: the same layers, with relative positions in place of absolute ones.

A cascade of the published family's architecture that starts from weights that are at hand: what quantisation and graph
passes are tried on besides random weights. Without relative positions (their gain at zero) the new encoder gives what
the old one gives for a text whose subwords all stand at the mean position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoModel, DebertaV2Config

from kniv.training.cascade import Cascade

BUCKETS = 256
_SUMMANDS = 3  # DeBERTa divides scores by sqrt(3 d): content to content, content to position, position to content
_GAIN = 0.3  # of the new position embeddings, which begin as noise: small beside content
_USED_POSITIONS = 64  # absolute positions whose mean stands for all of them
_KEPT = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "hidden_act",
    "layer_norm_eps",
    "max_position_embeddings",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
)
_NAMES = {
    "attention.self.query": "attention.self.query_proj",
    "attention.self.key": "attention.self.key_proj",
    "attention.self.value": "attention.self.value_proj",
}


def with_relative_positions(model: Cascade) -> Cascade:
    """The cascade over a DeBERTa-v2 encoder of the same size, its heads and every shared weight kept.

    Args:
        model: a cascade over a BERT encoder.

    Returns:
        A new cascade to be fitted further: the relative positions are not learned yet.

    Raises:
        ValueError: its encoder is not of the BERT family.
    """
    config = model.encoder.config
    if config.model_type != "bert":
        raise ValueError(f"relative positions replace those of a BERT encoder, and this is '{config.model_type}'")
    encoder = AutoModel.from_config(_config(config), attn_implementation="eager")
    _copy_embeddings(model.encoder.embeddings, encoder.embeddings)
    for old, new in zip(model.encoder.encoder.layer, encoder.encoder.layer, strict=True):
        new.load_state_dict(_renamed(old.state_dict()))
    nn.init.constant_(encoder.encoder.LayerNorm.weight, _GAIN)
    made = Cascade(encoder, model.config)
    missing, unexpected = made.load_state_dict(_without_encoder(model), strict=False)
    assert not unexpected and all(name.startswith("encoder.") for name in missing)
    return made


def _config(config: object) -> DebertaV2Config:
    return DebertaV2Config(
        **{name: getattr(config, name) for name in _KEPT},
        max_relative_positions=-1,
        norm_rel_ebd="layer_norm",
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        position_buckets=BUCKETS,
        relative_attention=True,
        share_att_key=True,
        type_vocab_size=0,
    )


def _copy_embeddings(old: nn.Module, new: nn.Module) -> None:
    """Cased pieces, with what every subword had added: the mean position and the first segment."""
    new.word_embeddings = old.word_embeddings
    with torch.no_grad():
        new.word_embeddings.cases.weight += old.position_embeddings.weight[:_USED_POSITIONS].mean(0)
        new.word_embeddings.cases.weight += old.token_type_embeddings.weight[0]
    new.LayerNorm.load_state_dict(old.LayerNorm.state_dict())


def _renamed(layer: dict[str, Tensor]) -> dict[str, Tensor]:
    """A BERT layer's weights under DeBERTa's names.

    DeBERTa's position-to-content scores hold the query's bias once more, so each of the two gets half of it.
    """
    named = {}
    for key, value in layer.items():
        prefix, _, kind = key.rpartition(".")
        factor = _SUMMANDS**0.5 / (2 if kind == "bias" else 1) if prefix == "attention.self.query" else 1.0
        named[f"{_NAMES.get(prefix, prefix)}.{kind}"] = factor * value
    return named


def _without_encoder(model: Cascade) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("encoder.")}
