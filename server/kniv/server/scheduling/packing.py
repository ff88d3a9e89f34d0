"""Filling a batch."""

from __future__ import annotations

from dataclasses import dataclass

from kniv.server.scheduling.cost import CostModel
from kniv.server.scheduling.entry import Entry
from kniv.server.scheduling.fairness import Cell, FairQueue
from kniv.server.scheduling.policy import BatchLimits


@dataclass(frozen=True, slots=True)
class _Plan:
    """Rows of which padded lengths a batch is best filled with, and how efficient that makes it.

    Attributes:
        efficiency: part of its time that goes to its rows' own subwords, not to padding and what every batch takes.
        length: padded length of the longest, which all are padded to.
        shortest: padded length of the shortest.
    """

    efficiency: float
    length: int
    shortest: int


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
        """Take rows of a queue, as long as they fit: those lengths that make most of the batch's time, longest first.

        Args:
            queue: where they wait.
            cost: what batches take, and what clients are charged: the time of each row alone.
        """
        cells = self._cells(queue)
        plan = self._best(cells, cost.fixed, len(self.rows), sum([entry.bucket for entry in self.rows]))
        for bucket, cell in cells:
            if not plan.shortest <= bucket <= plan.length:
                continue
            while len(self.rows) < self.most and (entry := cell.first()) is not None and self.fits(entry):
                assert entry.level is not None
                entry.level.take(entry, cost.seconds(entry.bucket))
                self.add(entry)

    def efficiency(self, queue: FairQueue, cost: CostModel) -> float:
        """About how efficient it would be, filled from the queue where its one row still waits."""
        return self._best(self._cells(queue), cost.fixed, 0, 0).efficiency

    def _cells(self, queue: FairQueue) -> list[tuple[int, Cell]]:
        """Rows of a queue that could join, by padded length, the longest first."""
        cells = queue.cells(self.rows[0].item.outputs)
        least, most = self.length / self._stretch, self._stretch * self._shortest
        return sorted([(bucket, cell) for bucket, cell in cells.items() if least <= bucket <= most], reverse=True)

    def _best(self, cells: list[tuple[int, Cell]], fixed: float, rows: int, own: int) -> _Plan:
        """What to take of these cells beside so many rows and their subwords.

        Rows shorter than the common length make a batch more efficient as long as the part of it that they fill is
        larger than the batch's efficiency so far. So a small batch takes whoever is near, and a full one is choosy.
        """
        best = _Plan(0.0, self.length, self.length)
        for length in (self.length, *[bucket for bucket, _ in reversed(cells) if bucket > self.length]):
            most, count, useful, shortest = min(self.most, max(1, self.tokens // length)), rows, own, length
            if most < count:
                break
            efficiency = useful / (fixed + length * count) if count else 0.0
            least = length / self._stretch
            for bucket, cell in cells:
                if bucket > length:
                    continue
                if bucket < least or bucket < efficiency * length or count >= most:
                    break
                more = min(cell.count, most - count)
                count, useful, shortest = count + more, useful + more * bucket, bucket
                efficiency = useful / (fixed + length * count)
            if efficiency > best.efficiency:
                best = _Plan(efficiency, length, shortest)
        return best
