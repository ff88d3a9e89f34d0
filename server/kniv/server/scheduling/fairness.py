"""A queue that is fair between the clients of one level.

*Start-time fair queueing* (Goyal, Vin and Cheng, SIGCOMM 1996) after Demers, Keshav and Shenker's fair queueing
(SIGCOMM 1989): every flow has a tag, the service that it has had on a common virtual clock; the flow with the
smallest tag is next, and its tag grows by the cost of what it gets. A flow that comes back from idleness starts at
the clock's present: it has no claim on the past, and finds itself ahead of all that have just been served. The
clock moves by the service given divided by the flows that wait, as in a bit-by-bit round robin, and so passes any
tag in the end: flows that keep arriving cannot hold up for ever one that has been served.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from operator import attrgetter

from kniv.server.scheduling.entry import Entry
from kniv.server.scheduling.heap import LazyHeap

_SMALL = 64
_EFFORT = 4
_PLACE, _COUNT = attrgetter("place"), attrgetter("count")


class Strand:
    """One client's rows of one shape, in the order of their arrival."""

    __slots__ = ("count", "entries", "flow")

    def __init__(self, flow: Flow) -> None:
        self.flow, self.count = flow, 0
        self.entries: LazyHeap[Entry] = LazyHeap(_PLACE, lambda entry: entry.strand is self)


class Flow:
    """One client's rows in a queue, in the order of their arrival."""

    __slots__ = ("count", "entries", "strands", "tag")

    def __init__(self, queue: FairQueue, tag: float) -> None:
        self.tag, self.count = tag, 0
        self.entries: LazyHeap[Entry] = LazyHeap(_PLACE, lambda entry: entry.queue is queue)
        self.strands: dict[tuple[tuple[str, ...], int], Strand] = {}


class Cell:
    """All clients' rows of one shape."""

    __slots__ = ("count", "strands")

    def __init__(self) -> None:
        self.count = 0
        self.strands: LazyHeap[Strand] = LazyHeap(attrgetter("flow.tag"), _COUNT)

    def first(self) -> Entry | None:
        """The row that is next among them: of the client that has had least, the one that came first.

        Tags change with what clients get in other cells, so that many may be out of place here. A few are put right
        each time; whoever is then at the head has had little, and those that begin batches are chosen with care.
        """
        strand = self.strands.first(_EFFORT)
        return None if strand is None else strand.entries.first()


class FairQueue:
    """Waiting rows of one lane and level, and equally final: fair between clients, each client's in their order.

    Rows are filed by shape, outputs and padded length, so that those that fit a batch are found at once.
    """

    def __init__(self) -> None:
        self.count = 0
        self._flows: dict[Hashable, Flow] = {}
        self._order: LazyHeap[Flow] = LazyHeap(attrgetter("tag"), _COUNT)
        self._begun: LazyHeap[Entry] = LazyHeap(_PLACE, lambda entry: entry.queue is self)
        self._cells: dict[tuple[str, ...], dict[int, Cell]] = {}
        self._active = 0
        self._now = 0.0
        self._sweep_at = _SMALL

    def add(self, entry: Entry) -> None:
        """File a row."""
        client, outputs, bucket = entry.item.client, entry.item.outputs, entry.bucket
        flow = self._flows.get(client)
        if flow is None:
            flow = self._flows[client] = Flow(self, self._now)
        if not flow.count:
            flow.tag = max(flow.tag, self._now)
            self._active += 1
            self._order.push(flow)
        cells = self._cells.setdefault(outputs, {})
        cell = cells.get(bucket)
        if cell is None:
            cell = cells[bucket] = Cell()
        strand = flow.strands.get((outputs, bucket))
        if strand is None:
            strand = flow.strands[outputs, bucket] = Strand(flow)
        if not strand.count:
            cell.strands.push(strand)
        entry.strand, entry.queue = strand, self
        strand.entries.push(entry)
        flow.entries.push(entry)
        if entry.item.arrival is not None and entry.item.deadline < inf:
            self._begun.push(entry)
        strand.count += 1
        cell.count += 1
        flow.count += 1
        self.count += 1

    def lead(self) -> Entry:
        """The row that is next; there must be one.

        What continues earlier work and has a deadline goes first, the oldest work before: waiting another round would
        be the end of much that has cost time already. Its client is charged all the same.
        """
        begun = self._begun.first()
        if begun is not None:
            assert begun.strand is not None
            entry = begun.strand.entries.first()
            assert entry is not None
            return entry
        flow = self._order.first()
        assert flow is not None
        self._now = max(self._now, flow.tag)
        entry = flow.entries.first()
        assert entry is not None
        return entry

    def beside(self, entry: Entry) -> list[Entry]:
        """Of a waiting row's client, the first row of each other shape."""
        assert entry.strand is not None
        others = [s for s in entry.strand.flow.strands.values() if s.count and s is not entry.strand]
        return [first for strand in others if (first := strand.entries.first()) is not None]

    def take(self, entry: Entry, cost: float) -> None:
        """A waiting row is served and its client charged."""
        assert entry.strand is not None
        entry.strand.flow.tag += cost
        self._now += cost / self._active
        self.remove(entry)

    def remove(self, entry: Entry) -> None:
        """A waiting row leaves; its client is not charged."""
        strand = entry.strand
        assert strand is not None
        flow, cells = strand.flow, self._cells[entry.item.outputs]
        cell = cells[entry.bucket]
        entry.strand = entry.queue = None
        strand.count -= 1
        cell.count -= 1
        flow.count -= 1
        self.count -= 1
        if not cell.count:
            del cells[entry.bucket]
            if not cells:
                del self._cells[entry.item.outputs]
        if not flow.count:
            self._active -= 1
            self._forget()

    def before(self, client: Hashable) -> int:
        """Rows to be expected before a new one of a client: its own, and of each other client as many and one."""
        flow = self._flows.get(client)
        mine = 0 if flow is None else flow.count
        others = self._active - bool(mine)
        return min(self.count, mine + others * (mine + 1))

    def cells(self, outputs: tuple[str, ...]) -> dict[int, Cell]:
        """Waiting rows that want these outputs, by padded length."""
        return self._cells.get(outputs, {})

    def __len__(self) -> int:
        """Clients that are remembered."""
        return len(self._flows)

    def _forget(self) -> None:
        """Drop idle clients that the clock has passed: they would come back as new ones do."""
        if len(self._flows) >= self._sweep_at:
            self._flows = {client: f for client, f in self._flows.items() if f.count or f.tag > self._now}
            self._sweep_at = max(_SMALL, 2 * len(self._flows))
