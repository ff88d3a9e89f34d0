"""Making case visible to an uncased encoder that is given token ids and nothing else.

The tokenizer keeps case: every lower-case piece of the uncased vocabulary also stands there with a
capital first letter and in capitals. The embedding of a piece is E[its lower-case piece] + C[its case],
so the graph carries one row a lower-case piece and two small index tables instead of a row a cased piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

LOWER, TITLE, UPPER = 0, 1, 2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class CasedVocabulary:
    """A cased vocabulary over an uncased one.

    Attributes:
        pieces: every piece; its place is its id.
        lower: for each piece the row of its lower-case piece among ``rows``.
        case: for each piece LOWER, TITLE or UPPER.
        rows: for each kept lower-case piece its row in the uncased embedding table.
    """

    pieces: tuple[str, ...]
    lower: tuple[int, ...]
    case: tuple[int, ...]
    rows: tuple[int, ...]

    @classmethod
    def over(cls, uncased: Sequence[str]) -> CasedVocabulary:
        """Keep the special, ASCII, Latin and common punctuation pieces of an uncased vocabulary, and add case."""
        kept = [i for i, piece in enumerate(uncased) if piece in SPECIAL or _keep(piece.removeprefix("##"))]
        kept.sort(key=lambda i: (uncased[i] not in SPECIAL, i))
        pieces = [uncased[i] for i in kept]
        lower, case, seen = list(range(len(kept))), [LOWER] * len(kept), set(pieces)
        for row, piece in enumerate(list(pieces)):
            if piece in SPECIAL:
                continue
            prefix, body = ("##", piece[2:]) if piece.startswith("##") and len(piece) > 2 else ("", piece)
            for kind, variant in ((TITLE, body[:1].upper() + body[1:]), (UPPER, body.upper())):
                cased = prefix + variant
                if cased not in seen:
                    seen.add(cased)
                    pieces.append(cased)
                    lower.append(row)
                    case.append(kind)
        return cls(tuple(pieces), tuple(lower), tuple(case), tuple(kept))

    def tokenizer(self) -> Tokenizer:
        """A BERT WordPiece tokenizer over this vocabulary that keeps case and strips accents."""
        ids = {piece: index for index, piece in enumerate(self.pieces)}
        tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
        )
        tokenizer.add_special_tokens(list(SPECIAL))
        return tokenizer


def _keep(piece: str) -> bool:
    if piece.startswith("[unused"):
        return False
    return all(c.isascii() or c in "£€¥°–—‘’“”…•™®©½¼¾×§" for c in piece)


class CasedEmbedding(nn.Module):
    """Drop-in for an encoder's word embedding: E[lower-case piece] + C[case], int64 ids to [..., H]."""

    lower_of: Tensor
    case_of: Tensor

    def __init__(self, lower: Iterable[int], case: Iterable[int], rows: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("lower_of", torch.tensor(list(lower), dtype=torch.int32))
        self.register_buffer("case_of", torch.tensor(list(case), dtype=torch.int32))
        self.pieces = nn.Embedding(rows, hidden, padding_idx=0)
        self.cases = nn.Embedding(3, hidden)
        nn.init.zeros_(self.cases.weight)

    @classmethod
    def from_uncased(cls, vocabulary: CasedVocabulary, table: Tensor) -> CasedEmbedding:
        """Start from an uncased embedding table [V, H]; every case row starts at zero."""
        made = cls(vocabulary.lower, vocabulary.case, len(vocabulary.rows), table.shape[1])
        with torch.no_grad():
            made.pieces.weight.copy_(table[torch.tensor(vocabulary.rows)])
        return made

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embeddings of ``input_ids``."""
        return self.pieces(self.lower_of[input_ids]) + self.cases(self.case_of[input_ids])


def read_wordpiece(path_text: str) -> list[str]:
    """Pieces of a ``vocab.txt`` or of a WordPiece ``tokenizer.json``, by id."""
    if path_text.lstrip().startswith("{"):
        ids = json.loads(path_text)["model"]["vocab"]
        return sorted(ids, key=ids.__getitem__)
    return path_text.splitlines()
