"""Which of the waiting rows make up the next batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kniv.server.scheduling.row import Row


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may grow.

    Attributes:
        tokens: padded subwords (longest row times number of rows); a single longer row runs alone.
        rows: number of rows.
        stretch: no row is padded to more than this many times its own length.
    """

    tokens: int = 512
    rows: int = 8
    stretch: float = 1.5


def form(waiting: Sequence[Row[object]], limits: BatchLimits) -> list[int]:
    """Choose the next batch.

    The most urgent row, the first come among equals, leads. Rows that want the same outputs join it,
    nearest in length first, while padding stays within the limits.

    Args:
        waiting: rows in the order of their arrival, not empty.
        limits: bounds of the batch.

    Returns:
        Indices into ``waiting``, the leading row's first.
    """
    lead = min(range(len(waiting)), key=lambda index: (waiting[index].priority, index))
    outputs, length = waiting[lead].outputs, len(waiting[lead].ids)
    mates = [index for index, row in enumerate(waiting) if index != lead and row.outputs == outputs]
    mates.sort(key=lambda index: (abs(len(waiting[index].ids) - length), waiting[index].priority, index))
    chosen, shortest, longest = [lead], length, length
    for index in mates:
        size = len(waiting[index].ids)
        low, high = min(shortest, size), max(longest, size)
        if len(chosen) == limits.rows or high * (len(chosen) + 1) > limits.tokens or high > limits.stretch * low:
            break
        chosen.append(index)
        shortest, longest = low, high
    return chosen
