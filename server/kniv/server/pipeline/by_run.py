"""What a tokenizer reads alone in a text, so that the subwords of what was met before need not be found again."""

from __future__ import annotations

import json
import re
from typing import Any

from tokenizers import Tokenizer

# What these make of a plain text they make of each of its runs alone.
_LOCAL = frozenset(("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Strip", "StripAccents"))
_SPACES = frozenset((r"\s{2,}|[\n\r\t]", r"\s{2,}|[\n\r\t]+", r"\s+", " {2,}"))

_BETWEEN_SPACES = re.compile("[^ ]+")
_BETWEEN_PUNCTUATION = re.compile("[0-9A-Za-z]+|[^0-9A-Za-z ]")


def runs(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Matches the runs of a plain text whose subwords, one after the other, are those of the text.

    A text is plain if it is of printable ASCII, has one space between any two words and none around them, and holds
    none of the tokenizer's added tokens.

    Args:
        tokenizer: known to have such runs are those that split at spaces, as DeBERTa-v3's does, or at punctuation too,
            as BERT's does, with normalizers that look at one character at a time.

    Returns:
        The pattern; None for any other tokenizer.
    """
    splits = _parts(tokenizer.pre_tokenizer)
    if len(splits) != 1 or not all(map(_is_local, _parts(tokenizer.normalizer))):
        return None
    (split,) = splits
    if split["type"] == "BertPreTokenizer":
        return _BETWEEN_PUNCTUATION
    at_spaces = split["type"] == "Metaspace" and split.get("split", True) and split.get("prepend_scheme") == "always"
    return _BETWEEN_SPACES if at_spaces else None


def _parts(component: Any) -> list[dict[str, Any]]:
    """What a normalizer or pre-tokenizer consists of, as in ``tokenizer.json``."""
    if component is None:
        return []
    whole: dict[str, Any] = json.loads(component.__getstate__())
    parts: list[dict[str, Any]] = whole.get("normalizers", whole.get("pretokenizers", [whole]))
    return parts


def _is_local(part: dict[str, Any]) -> bool:
    kind: str = part["type"]
    if kind == "Replace":
        return part["pattern"].get("Regex", part["pattern"].get("String")) in _SPACES and bool(part["content"] == " ")
    return kind in _LOCAL
