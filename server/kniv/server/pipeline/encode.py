"""From words and turns to subword ids, in windows where a sentence is longer than the model reads at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from kniv.server.errors import RepositoryError
from kniv.server.pipeline.by_run import runs
from kniv.server.repository.metadata import Metadata

Ints = NDArray[np.int64]

# Far more characters than the last subwords of a turn have; without a bound a long turn would be
# encoded whole for each sentence that follows it.
_TAIL = 2_000
_CACHED_WORDS = 1 << 14
_CACHED_LETTERS = 32  # longer words are rare, and would make the cache's size the caller's choice


@dataclass(frozen=True, slots=True)
class Window:
    """Some consecutive words of a sentence, as the model reads them.

    Attributes:
        begin, end: the words, [begin, end).
        ids: subword ids [S], special tokens included.
        first: index in ``ids`` of each word's first subword [end - begin].
        cut: whether its only word has more subwords than fit, of which the last are left out.
    """

    begin: int
    end: int
    ids: Ints
    first: Ints
    cut: bool = False


class Encoder:
    """A model version's tokenizer with its limits.

    Args:
        path: ``tokenizer.json``.
        limits: the version's limits.

    Raises:
        RepositoryError: the tokenizer is missing, broken, or lacks [CLS], [SEP] or [UNK].
    """

    def __init__(self, path: Path, limits: Metadata) -> None:
        if not path.is_file():
            raise RepositoryError(path, "missing; a version folder needs it beside its graphs")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise RepositoryError(path, f"no tokenizer that the tokenizers library reads: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        ids = {token: self._tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[UNK]")}
        if missing := [token for token, index in ids.items() if index is None]:
            raise RepositoryError(path, f"lacks the special tokens {', '.join(missing)}")
        self._cls, self._sep, self._unk = ids["[CLS]"], ids["[SEP]"], ids["[UNK]"]
        self._room = limits.max_subwords - 2
        self._limits = limits
        self.vocabulary = self._tokenizer.get_vocab_size()
        self._runs = runs(self._tokenizer)
        self._added = [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]
        # Not of a method: then it would hold itself, and what is out of use be there until garbage is collected.
        self._pieces = partial(_pieces, self._tokenizer, self._unk)
        self._cached = lru_cache(_CACHED_WORDS)(self._pieces)

    def windows(self, words: Sequence[str]) -> list[Window]:
        """Encode a sentence.

        One window holds it all where it fits; otherwise windows of the largest size overlap by half.
        A word of more subwords than fit is cut to those that do; only its first is ever read.
        """
        pieces = [self._word(word) for word in words]
        if pieces and sum(map(len, pieces)) <= self._room:  # as of nearly every sentence
            return [self._window(pieces, 0, len(pieces))]
        ends = np.cumsum([len(piece) for piece in pieces])
        starts = ends - [len(piece) for piece in pieces]
        windows, begin = [], 0
        while begin < len(pieces):
            end = max(begin + 1, int(np.searchsorted(ends, starts[begin] + self._room, side="right")))
            windows.append(self._window(pieces, begin, end))
            if end >= len(pieces):
                break
            half = int(np.searchsorted(starts, starts[begin] + self._room // 2, side="left"))
            begin = min(max(begin + 1, half), end)
        return windows

    def act(self, previous: str | None, text: str, windows: Sequence[Window]) -> Ints:
        """Ids [S] of the row that a sentence's dialog act is read from.

        With a turn before it that is their pair. Without one it is the row of its own words, which other layers are
        read from too, as in the published quick start: see ADR 6.

        Args:
            previous: the turn before, None if there is none.
            text: of the sentence.
            windows: of its words.
        """
        return self.pair(previous, text) if previous is not None or not windows else windows[0].ids

    def pair(self, previous: str | None, text: str) -> Ints:
        """Ids [S] of ``tokenizer(previous, text)``: the end of the previous turn and the start of this one."""
        ids = self._subwords(text)
        head = [self._cls]
        if previous is not None:
            before = self._subwords(previous[-_TAIL:])
            head += [*before[-self._limits.max_previous_subwords :], self._sep]
        return np.array([*head, *ids[: self._limits.max_subwords - len(head) - 1], self._sep])

    def _subwords(self, text: str) -> list[int]:
        """Subword ids of a text, of runs met before from the cache: most are words met before."""
        plain = text.isascii() and text.isprintable() and "  " not in text and text == text.strip()
        if plain and self._runs is not None and not any(token in text for token in self._added):
            return [index for run in self._runs.findall(text) for index in self._word(run)]
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _window(self, pieces: Sequence[tuple[int, ...]], begin: int, end: int) -> Window:
        ids, first = [self._cls], []
        for piece in pieces[begin:end]:
            first.append(len(ids))
            ids.extend(piece)
        cut = len(ids) > self._room + 1
        return Window(begin, end, np.array([*ids[: self._room + 1], self._sep]), np.array(first), cut)

    def _word(self, word: str) -> tuple[int, ...]:
        return self._cached(word) if len(word) <= _CACHED_LETTERS else self._pieces(word)


def _pieces(tokenizer: Tokenizer, unknown: int, word: str) -> tuple[int, ...]:
    """Subwords of one word; a word that the tokenizer drops (a control character, say) is unknown."""
    encoded = tokenizer.encode([word], is_pretokenized=True, add_special_tokens=False)
    return tuple(encoded.ids) or (unknown,)
