"""A cascade small enough to fit, export and run within a test, and the public data where it is at hand."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the training extra")
pytest.importorskip("transformers", reason="needs the training extra")

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, BertConfig

from kniv.server.repository.labels import Labels
from kniv.training.cascade import Cascade, CascadeConfig
from kniv.training.rows import RowEncoder
from kniv.training.vocabulary import SPECIAL, CasedEmbedding, CasedVocabulary

with warnings.catch_warnings():
    # Importing it decorates functions in a way that PyTorch deprecates; ours to live with, not to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    import transformers.models.deberta_v2.modeling_deberta_v2  # noqa: F401

ROOT = Path(__file__).parents[2]
LABELS = Labels(
    pos=("NOUN", "VERB", "PUNCT", "PROPN"),
    ner=("O", "B-PERSON", "I-PERSON", "B-GPE", "I-GPE", "B-DATE", "I-DATE"),
    srl=("O", "V", "B-ARG0", "I-ARG0", "B-ARG1", "I-ARG1"),
    cls=("inform", "request", "question", "confirm", "reject", "offer", "social", "status"),
    deprel=("root", "nsubj", "obj", "punct"),
)
UNCASED = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz.,?", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), "ann", "##na"]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public data."""
    folder = Path(os.environ.get("KNIV_DATA", ROOT / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"needs the public data (KNIV_DATA), not at {folder}")
    return folder


def vocabulary() -> CasedVocabulary:
    return CasedVocabulary.over(UNCASED)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return vocabulary().tokenizer()


@pytest.fixture
def encoder(tokenizer: Tokenizer) -> RowEncoder:
    return RowEncoder(tokenizer)


@pytest.fixture
def labels() -> Labels:
    return LABELS


@pytest.fixture
def tiny() -> Cascade:
    """A BERT-family cascade with a cased embedding, 2 layers of 64."""
    return tiny_cascade()


def tiny_cascade(seed: int = 5) -> Cascade:
    torch.manual_seed(seed)
    words = vocabulary()
    config = BertConfig(
        vocab_size=len(words.rows),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
        hidden_act="gelu",
    )
    model = AutoModel.from_config(config, attn_implementation="eager")
    model.pooler = None
    model.embeddings.word_embeddings = CasedEmbedding.from_uncased(words, torch.randn(len(UNCASED), 64) * 0.1)
    cascade = Cascade(model, CascadeConfig.of(LABELS))
    with torch.no_grad():
        for mix in cascade.mixes.values():
            mix.weights.normal_()
        model.embeddings.word_embeddings.cases.weight.normal_(std=0.1)
    return cascade.eval()
