"""The waiting rows of one priority level of a lane."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from kniv.server.scheduling.entry import Entry, State
from kniv.server.scheduling.fairness import FairQueue
from kniv.server.scheduling.heap import LazyHeap
from kniv.server.scheduling.policy import Policy
from kniv.server.scheduling.shares import Share


@dataclass(frozen=True, slots=True)
class Lead:
    """Who begins the next batch.

    Attributes:
        entry: the row.
        oldest: whether none of its level has waited longer.
        overdue: whether the one that has waited longest is overdue.
    """

    entry: Entry
    oldest: bool
    overdue: bool


class Level:
    """Finals, then partials, then rows that are past their queue timeout; in each of these fair between clients.

    Whoever has waited longest and is overdue begins a batch out of turn as the share allows, so that no order of
    arrivals keeps a row waiting for ever.

    Args:
        number: 1 is the most urgent.
        policy: ageing and share.
    """

    def __init__(self, number: int, policy: Policy) -> None:
        self.number, self.count = number, 0
        self.queues = (FairQueue(), FairQueue(), FairQueue())
        self._patience = policy.ageing * number
        self._share = Share(policy.share, policy.reserve)
        self._oldest: LazyHeap[Entry] = LazyHeap(attrgetter("place"), lambda entry: entry.level is self)
        self._suspects: deque[list[Entry]] = deque()

    def add(self, entry: Entry) -> None:
        """A row waits."""
        self._enter(entry)
        self.queues[2 if entry.late else 0 if entry.item.final else 1].add(entry)

    def add_suspects(self, group: list[Entry]) -> None:
        """Rows of a failed batch wait to be run again, with nobody else."""
        for entry in group:
            self._enter(entry)
        self._suspects.append(group)

    def remove(self, entry: Entry) -> None:
        """A waiting row leaves without being served."""
        if entry.queue is not None:
            entry.queue.remove(entry)
        self._leave(entry)

    def take(self, entry: Entry, cost: float) -> None:
        """A waiting row is served and its client charged."""
        assert entry.queue is not None
        entry.queue.take(entry, cost)
        self._leave(entry)

    def take_suspects(self) -> list[Entry]:
        """The rows of a failed batch that are to be run again first; empty if there are none."""
        while self._suspects:
            group = [entry for entry in self._suspects.popleft() if entry.level is self]
            for entry in group:
                self._leave(entry)
            if group:
                return group
        return []

    @property
    def oldest(self) -> float:
        """When the row that has waited longest came; ``inf`` if none waits."""
        entry = self._oldest.first()
        return inf if entry is None else entry.arrival

    @property
    def due(self) -> float:
        """When that row is overdue."""
        return self.oldest + self._patience

    def lead(self, now: float) -> Lead | None:
        """Who is next, None if only suspects wait."""
        queue = next((queue for queue in self.queues if queue.count), None)
        oldest = self._oldest.first()
        if queue is None or oldest is None:
            return None
        overdue = oldest.arrival + self._patience <= now
        # Suspects are served before this is asked in earnest.
        if overdue and self._share.claims and oldest.queue is not None:
            return Lead(oldest, oldest=True, overdue=True)
        entry = queue.lead()
        return Lead(entry, entry is oldest, overdue)

    def begun_by(self, entry: Entry, lead: Lead) -> Lead:
        """Another row of the level in the place of the one whose turn it is."""
        return Lead(entry, entry is self._oldest.first(), lead.overdue)

    def served(self, lead: Lead, seconds: float) -> None:
        """A batch that the lead began takes so long."""
        if lead.oldest:
            self._share.spend(seconds)
        elif lead.overdue:
            self._share.earn(seconds)

    def _enter(self, entry: Entry) -> None:
        entry.state, entry.level = State.WAITING, self
        self.count += 1
        self._oldest.push(entry)

    def _leave(self, entry: Entry) -> None:
        entry.level = None
        self.count -= 1
