"""Filling a batch."""

from __future__ import annotations

from kniv.server.scheduling.cost import CostModel
from kniv.server.scheduling.entry import Entry
from kniv.server.scheduling.fairness import FairQueue
from kniv.server.scheduling.policy import BatchLimits


class Packing:
    """A batch while it is filled, from a first row that is in it whatever its size.

    Attributes:
        tokens: most padded subwords.
        most: most rows.
        rows: those that are in it.
        length: subwords that each is padded to.
    """

    def __init__(self, lead: Entry, limits: BatchLimits, tokens: int) -> None:
        self._stretch, self.tokens = limits.stretch, tokens
        self.rows = [lead]
        self.length, self._shortest = lead.bucket, lead.item.length
        self.most = max(1, min(limits.rows, tokens // self.length))

    @property
    def padded(self) -> int:
        """Padded subwords that are in it."""
        return self.length * len(self.rows)

    def near(self, bucket: int) -> bool:
        """Whether rows of this padded length could join."""
        return max(bucket, self.length) <= self._stretch * min(bucket, self._shortest)

    def fits(self, entry: Entry) -> bool:
        """Whether a row can join, if one more row can."""
        length = max(self.length, entry.bucket)
        return length * (len(self.rows) + 1) <= self.tokens and length <= self._stretch * min(
            self._shortest, entry.item.length
        )

    def add(self, entry: Entry) -> None:
        """A row that fits joins."""
        self.rows.append(entry)
        self.length = max(self.length, entry.bucket)
        self._shortest = min(self._shortest, entry.item.length)

    def ready(self, queue: FairQueue) -> int:
        """Rows of a queue that want the same outputs and are near in length."""
        cells = queue.cells(self.rows[0].item.outputs)
        return sum(cell.count for bucket, cell in cells.items() if self.near(bucket))

    def fill(self, queue: FairQueue, cost: CostModel) -> None:
        """Take rows of a queue, the nearest in length first, as long as they fit.

        Args:
            queue: where they wait.
            cost: what their clients are charged: the time of each alone.
        """
        cells = queue.cells(self.rows[0].item.outputs)
        middle = self.length
        near = [bucket for bucket in cells if self.near(bucket)]
        near.sort(key=lambda bucket: (abs(bucket - middle), bucket))
        for bucket in near:
            cell = cells[bucket]
            while len(self.rows) < self.most and (entry := cell.first()) is not None and self.fits(entry):
                assert entry.level is not None
                entry.level.take(entry, cost.seconds(entry.bucket))
                self.add(entry)
