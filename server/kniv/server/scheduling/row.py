"""The unit of work: one row of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One row, and what is wanted of it.

    Attributes:
        ids: subword ids [S], special tokens included.
        predicate: subword index of the marked predicate, 0 for none.
        outputs: names of the graph's outputs that ``read`` looks at.
        read: makes the answer from those outputs, each without its batch dimension and cut to S.
            It runs in a worker thread, so that decoding never blocks the event loop; it must copy
            what it keeps.
    """

    ids: Ints
    predicate: int
    outputs: tuple[str, ...]
    read: Callable[[dict[str, Floats]], T]


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Seconds that a batch took: packing its rows, running them, reading their answers."""

    input: float
    infer: float
    output: float


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """A row's answer.

    Attributes:
        value: what ``read`` made of the outputs.
        queued: seconds that the row waited.
        batch: what its batch took.
    """

    value: T_co
    queued: float
    batch: BatchTimes

    @property
    def computed(self) -> float:
        """Seconds of its batch."""
        return self.batch.input + self.batch.infer + self.batch.output
