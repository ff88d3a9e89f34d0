"""Training rows: sentences as subword ids with labels at the first subword of each word, in padded batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

MAX_SUBWORDS = 128
MAX_PREVIOUS = 48
IGNORED = -100

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the encoder.

    Attributes:
        ids: int64 [S] subword ids.
        first: int64 [W] index of each word's first subword (words cut off by the length limit are absent).
        predicate: subword index of the marked predicate, 0 if none is.
        layers: per subword class indices [S] by layer (pos, ner, head, deprel, srl), IGNORED elsewhere.
        act: dialog-act class or IGNORED.
    """

    ids: Ints
    first: Ints
    predicate: int = 0
    layers: dict[str, Ints] = field(default_factory=dict)
    act: int = IGNORED


class RowEncoder:
    """Turns words and utterances into rows, as the server does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.cls, self.sep = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        self.unk = tokenizer.token_to_id("[UNK]")

    def words(self, words: Sequence[str]) -> tuple[Ints, Ints]:
        """Subword ids [S] with [CLS] and [SEP], and each word's first subword [W]; cut at MAX_SUBWORDS."""
        pieces = self.tokenizer.encode_batch([[word] for word in words], is_pretokenized=True, add_special_tokens=False)
        ids, first = [self.cls], []
        for piece in pieces:
            word_ids = piece.ids or [self.unk]
            if len(ids) + len(word_ids) >= MAX_SUBWORDS:
                break
            first.append(len(ids))
            ids.extend(word_ids)
        return np.array([*ids, self.sep]), np.array(first, dtype=np.int64)

    def pair(self, previous: str | None, text: str) -> Ints:
        """Ids of ``tokenizer(previous, text)``; the previous utterance keeps its last MAX_PREVIOUS subwords."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        if previous is None:
            return np.array([self.cls, *ids[: MAX_SUBWORDS - 2], self.sep])
        before = self.tokenizer.encode(previous, add_special_tokens=False).ids[-MAX_PREVIOUS:]
        room = MAX_SUBWORDS - len(before) - 3
        return np.array([self.cls, *before, self.sep, *ids[:room], self.sep])

    def labelled(
        self,
        words: Sequence[str],
        layers: Mapping[str, Sequence[int]],
        heads: Sequence[int] | None = None,
        predicate: int | None = None,
    ) -> Row | None:
        """A row with word-level class indices put at first subwords.

        Args:
            words: the sentence.
            layers: class index a word, by layer name.
            heads: 0-based head word of each word; the root points at itself.
            predicate: index of the marked word.

        Returns:
            None if the marked predicate lies beyond the length limit.
        """
        ids, first = self.words(words)
        count = len(first)
        placed = {}
        for name, values in layers.items():
            placed[name] = np.full(len(ids), IGNORED, dtype=np.int64)
            placed[name][first] = np.asarray(values, dtype=np.int64)[:count]
        if heads is not None:
            placed["head"] = np.full(len(ids), IGNORED, dtype=np.int64)
            for word, head in enumerate(heads[:count]):
                if head < count:
                    placed["head"][first[word]] = first[head]
        if predicate is not None and predicate >= count:
            return None
        return Row(ids, first, int(first[predicate]) if predicate is not None else 0, placed)


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded rows as int64 tensors: [B, S] for ids, mask and layers, [B] for predicate and act."""

    ids: torch.Tensor
    mask: torch.Tensor
    predicate: torch.Tensor
    layers: dict[str, torch.Tensor]
    act: torch.Tensor

    def to(self, device: str) -> Batch:
        """The batch on another device."""
        layers = {name: values.to(device) for name, values in self.layers.items()}
        return Batch(self.ids.to(device), self.mask.to(device), self.predicate.to(device), layers, self.act.to(device))


def collate(rows: Sequence[Row]) -> Batch:
    """Pad rows to the longest; a layer that a row lacks is IGNORED there."""
    length = max(len(row.ids) for row in rows)
    names = {name for row in rows for name in row.layers}
    ids, mask = np.zeros((len(rows), length), dtype=np.int64), np.zeros((len(rows), length), dtype=np.int64)
    layers = {name: np.full((len(rows), length), IGNORED, dtype=np.int64) for name in sorted(names)}
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], mask[place, : len(row.ids)] = row.ids, 1
        for name, values in row.layers.items():
            layers[name][place, : len(values)] = values
    return Batch(
        ids=torch.from_numpy(ids),
        mask=torch.from_numpy(mask),
        predicate=torch.tensor([row.predicate for row in rows]),
        layers={name: torch.from_numpy(values) for name, values in layers.items()},
        act=torch.tensor([row.act for row in rows]),
    )


def by_tokens(rows: Sequence[Row], budget: int, random: np.random.Generator | None = None) -> list[list[Row]]:
    """Cut rows into batches of near lengths whose padded size stays within ``budget`` subwords.

    With ``random``, lengths are jittered and the batches shuffled, so that epochs differ.
    """
    jitter = random.uniform(0.9, 1.1, len(rows)) if random is not None else np.ones(len(rows))
    order = np.argsort([len(row.ids) * j for row, j in zip(rows, jitter, strict=True)], kind="stable")
    batches: list[list[Row]] = []
    current: list[Row] = []
    longest = 0
    for index in order:
        longest_now = max(longest, len(rows[index].ids))
        if current and longest_now * (len(current) + 1) > budget:
            batches.append(current)
            current, longest_now = [], len(rows[index].ids)
        current.append(rows[index])
        longest = longest_now
    if current:
        batches.append(current)
    if random is not None:
        random.shuffle(batches)
    return batches
