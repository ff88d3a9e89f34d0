"""What comes back over a stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from kniv.client._annotation import Sentence, Timings
from kniv.client._errors import KnivError


class Outcome(StrEnum):
    """How an item ended: all sentences sent, given up by the caller, or replaced by a newer revision."""

    COMPLETE = "complete"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"  # an outcome that this client is too old to know


@dataclass(frozen=True, slots=True)
class Item:
    """A turn or a document of the stream. The two have name spaces of their own; documents have revision 0."""

    kind: Literal["turn", "document"]
    id: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class SentenceEvent:
    """A sentence of an item is ready. ``speaker`` is the turn's; empty for documents."""

    item: Item
    sentence: Sentence
    speaker: str

    @property
    def item_id(self) -> str:
        """Name of the turn or document."""
        return self.item.id


@dataclass(frozen=True, slots=True)
class ItemDone:
    """An item ended: how, after how many sentences, and the sums of their times."""

    item: Item
    outcome: Outcome
    sentence_count: int
    timings: Timings

    @property
    def item_id(self) -> str:
        """Name of the turn or document."""
        return self.item.id


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """An item ended by an error, or a message was refused; ``item`` is None if it named none. The stream goes on.

    A refused message began nothing: ``ended`` is False, and an item of the same name that is under way goes on.
    """

    item: Item | None
    error: KnivError
    ended: bool

    @property
    def item_id(self) -> str | None:
        """Name of the turn or document."""
        return None if self.item is None else self.item.id


Event = SentenceEvent | ItemDone | ItemFailed
