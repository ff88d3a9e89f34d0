"""Subwords found run by run against those of the tokenizers library, for the whole text at once."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from kniv.server.pipeline.by_run import runs
from kniv.server.pipeline.encode import Encoder
from kniv.server.repository.metadata import Metadata

DATA = Path(os.environ.get("KNIV_DATA", Path(__file__).parents[4] / "shared" / "data"))
DEBERTA = DATA / "deberta-v3-tokenizer" / "tokenizer.json"
RUNS = st.one_of(
    st.sampled_from(
        [
            "The",
            "don't",
            "a_b--c",
            "($1,000.50)",
            "[SEP]",
            "[UNK]x",
            "...",
            "\u2581a",
            "caf\u00e9",
            "a\u0301b",
            "x" * 150,
            "\x1c",
            "",
        ]
    ),
    st.text(string.printable, max_size=8),
    st.text(max_size=4),
)
TEXTS = st.builds(str.join, st.sampled_from([" ", " ", "  ", "\n", "\u00a0"]), st.lists(RUNS, max_size=12))


@pytest.fixture(scope="module", params=["mini", "deberta"])
def path(request: pytest.FixtureRequest, mini: Path) -> Path:
    if request.param == "mini":
        return mini / "tokenizer.json"
    if not DEBERTA.is_file():
        pytest.skip("the tokenizer of DeBERTa-v3 is not in ../shared/data; KNIV_DATA names another folder")
    return DEBERTA


@pytest.fixture(scope="module")
def encoder(path: Path) -> Encoder:
    return Encoder(path, Metadata(max_subwords=10_000))


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


def test_both_families_of_tokenizers_read_by_run(tokenizer: Tokenizer) -> None:
    assert runs(tokenizer) is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=TEXTS)
def test_a_text_has_the_subwords_that_the_library_finds(encoder: Encoder, tokenizer: Tokenizer, text: str) -> None:
    text = text.encode(errors="replace").decode()
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    assert encoder.pair(None, text).tolist()[1:-1] == whole


@pytest.mark.parametrize(
    ("splits", "normalizer"),
    [
        (None, None),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), None),
        (pre_tokenizers.Metaspace(prepend_scheme="first"), None),
        (pre_tokenizers.Metaspace(prepend_scheme="always", split=False), None),
        (pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits()]), None),
        (pre_tokenizers.BertPreTokenizer(), normalizers.Replace("a b", "c")),
        (pre_tokenizers.BertPreTokenizer(), normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("x")])),
    ],
)
def test_others_are_not_taken_to(
    splits: pre_tokenizers.PreTokenizer | None, normalizer: normalizers.Normalizer | None
) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    if splits is not None:
        tokenizer.pre_tokenizer = splits
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    assert runs(tokenizer) is None
