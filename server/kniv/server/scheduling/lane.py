"""One lane's waiting rows, what they cost, and the batches made of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import inf

from kniv.server.scheduling.cost import CostModel
from kniv.server.scheduling.entry import Entry
from kniv.server.scheduling.fairness import FairQueue
from kniv.server.scheduling.levels import Lead, Level
from kniv.server.scheduling.packing import Packing
from kniv.server.scheduling.policy import LaneSpec, Policy, QueuePolicy

_RIDE = 1.1  # rows that add less than a tenth to a batch's time join it whatever their level
_SPLIT = 0.8  # waiting rows are spread over free slots if that takes less than this much of the time
_GAP_WEIGHT = 0.1
_FULLER = 1.05  # by how much a batch is to be more efficient for another row to be passed over
_FAR = 2.0  # windows from which on it does not matter how far off the next row is


@dataclass(frozen=True, slots=True)
class Formed:
    """A batch that has left the queue.

    Attributes:
        rows: its rows.
        length: subwords that each is padded to.
        seconds: what it is expected to take.
    """

    rows: list[Entry]
    length: int
    seconds: float


class Lane:
    """Waiting rows of one variant.

    Args:
        spec: what it is.
        policy: how rows share.
    """

    def __init__(self, spec: LaneSpec, policy: Policy) -> None:
        self.spec, self.name = spec, spec.name
        self.levels = {n: Level(n, policy) for n in range(1, spec.batching.levels + 1)}
        self.waiting, self.held = 0, 0  # held: waiting or running
        self.running = dict.fromkeys(spec.instances, 0)
        self.closing = False
        self._bound = policy.wait_bound
        self._costs: dict[tuple[str, tuple[str, ...]], CostModel] = {}
        # Nothing is expected to come soon until it has been seen to.
        self._came, self._gap = -inf, _FAR * spec.batching.max_queue_delay

    def level_of(self, asked: int) -> int:
        """The level that a row is given which asks for this one."""
        return min(asked or self.spec.batching.default_level, self.spec.batching.levels)

    def policy_of(self, level: int) -> QueuePolicy:
        """A level's queue policy."""
        return self.spec.batching.policies[level]

    def timeout(self, level: int, asked: float) -> float:
        """Seconds that a row may wait in the queue, 0 for no limit."""
        policy = self.policy_of(level)
        if not (asked and policy.allow_timeout_override):
            return policy.timeout
        return min(asked, policy.timeout) if policy.timeout else asked

    def arrived(self, now: float) -> None:
        """A row has come: learn how often they do."""
        gap = min(now - self._came, _FAR * self.spec.batching.max_queue_delay)
        self._gap, self._came = (1 - _GAP_WEIGHT) * self._gap + _GAP_WEIGHT * gap, now

    def add(self, level: int, entry: Entry) -> None:
        """A row waits."""
        self.levels[level].add(entry)
        self.waiting += 1

    def add_suspects(self, level: int, group: list[Entry]) -> None:
        """Rows of a failed batch wait to be run again."""
        self.levels[level].add_suspects(group)
        self.waiting += len(group)

    def remove(self, entry: Entry) -> None:
        """A waiting row leaves without being served."""
        assert entry.level is not None
        entry.level.remove(entry)
        self.waiting -= 1

    def top(self) -> int:
        """The most urgent level that waits; there must be one."""
        return next(number for number, level in self.levels.items() if level.count)

    def ahead(self, number: int, client: Hashable) -> int:
        """Rows to be expected before a new one of a level and client: more urgent ones, and others in fair turn."""
        urgent = sum(level.count for n, level in self.levels.items() if n < number)
        level = self.levels.get(number)
        return urgent + (0 if level is None else sum(queue.before(client) for queue in level.queues))

    def cost(self, pool: str, outputs: tuple[str, ...]) -> CostModel:
        """What batches that want these outputs take on a pool."""
        key = (pool, outputs)
        if key not in self._costs:
            self._costs[key] = CostModel()
        return self._costs[key]

    def holds_until(self, pool: str, now: float) -> float:
        """Until when the window is open for rows to join those that wait; a time not after ``now`` if it is closed.

        Waiting gains nothing once a batch can be full, or when no row is to be expected before the window closes.
        """
        delay = self.spec.batching.max_queue_delay
        if not delay or self.closing:
            return now
        closes = min(level.oldest for level in self.levels.values()) + delay
        if now + self._gap > closes:
            return now
        level = self.levels[self.top()]
        lead = level.lead(now)
        if lead is None:
            return now
        packing = self._begin(pool, lead.entry)
        return now if packing.ready(_home(lead.entry, level)) >= packing.most else closes

    def form(self, pool: str, level: Level, now: float, free: int, others: int) -> Formed:
        """Take the next batch of a level out of the queue.

        Args:
            pool: where it is to run.
            level: whose turn it is; it must not be empty.
            now: the time.
            free: slots that this lane could have there.
            others: rows of other lanes that wait for them.
        """
        if suspects := level.take_suspects():
            self.waiting -= len(suspects)
            length = max(entry.bucket for entry in suspects)
            cost = self.cost(pool, suspects[0].item.outputs)
            return Formed(suspects, length, cost.seconds(length * len(suspects)))
        lead = level.lead(now)
        assert lead is not None
        if not (lead.oldest and lead.overdue):
            lead = self._fuller(pool, level, lead)
        formed = self._form(pool, level, lead, free, others)
        level.served(lead, formed.seconds)
        self.waiting -= len(formed.rows)
        return formed

    def _fuller(self, pool: str, level: Level, lead: Lead) -> Lead:
        """Another row of the lead's client in its place, if that makes a fuller batch; a row is passed over once."""
        entry, queue = lead.entry, _home(lead.entry, level)
        # Nothing goes before a row that others wait to follow, but another such.
        others = [] if entry.passed else [one for one in queue.beside(entry) if one.item.leads or not entry.item.leads]
        packing = self._begin(pool, entry)
        if not others or packing.ready(queue) >= packing.most:
            return lead
        best, chosen = _FULLER * packing.efficiency(queue, self.cost(pool, entry.item.outputs)), entry
        for other in others:
            efficiency = self._begin(pool, other).efficiency(queue, self.cost(pool, other.item.outputs))
            if efficiency > best:
                best, chosen = efficiency, other
        if chosen is entry:
            return lead
        entry.passed = True
        return level.begun_by(chosen, lead)

    def _form(self, pool: str, level: Level, lead: Lead, free: int, others: int) -> Formed:
        entry = lead.entry
        home, cost = _home(entry, level), self.cost(pool, entry.item.outputs)
        packing = self._begin(pool, entry)
        if free > 1:
            ready = packing.ready(home)
            slots = free - min(free - 1, others + self.waiting - ready)
            part, whole = -(-ready // slots), min(ready, packing.most)
            if cost.seconds(part * packing.length) < _SPLIT * cost.seconds(whole * packing.length):
                packing.most = min(packing.most, part)
        level.take(entry, cost.seconds(entry.bucket))
        packing.fill(home, cost)
        packing.tokens = min(packing.tokens, cost.tokens_within(_RIDE * cost.seconds(packing.padded)))
        if len(packing.rows) < packing.most and packing.padded + packing.length <= packing.tokens:
            for other in self.levels.values():
                for queue in other.queues:
                    if queue.count and queue is not home:
                        packing.fill(queue, cost)
        return Formed(packing.rows, packing.length, cost.seconds(packing.padded))

    def _begin(self, pool: str, entry: Entry) -> Packing:
        limits, cost = self.spec.limits, self.cost(pool, entry.item.outputs)
        tokens = max(cost.tokens_surely_within(self._bound), cost.tokens_within(_RIDE * cost.seconds(entry.bucket)))
        return Packing(entry, limits, min(limits.tokens, tokens))


def _home(entry: Entry, level: Level) -> FairQueue:
    """The queue of a level in which a row waits."""
    assert entry.queue is not None
    return entry.queue
