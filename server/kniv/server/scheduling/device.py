"""One pool's slots, and which lane and level its next batch is for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import inf

from kniv.server.scheduling.anticipation import Anticipation
from kniv.server.scheduling.lane import Lane
from kniv.server.scheduling.levels import Level
from kniv.server.scheduling.policy import Policy, Pool
from kniv.server.scheduling.shares import Share, Tags


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is.

    Attributes:
        lane, level: what is to be served.
        passed: less urgent levels that have overdue rows and are passed over in its favour.
        others: rows that wait in the other lanes that could run now.
    """

    lane: Lane
    level: Level
    passed: tuple[int, ...]
    others: int


class Device:
    """Shares a pool: the most urgent level first, but overdue rows of the levels below it as their share allows.

    Lanes of one level take turns by the time that they use, see :class:`~kniv.server.scheduling.shares.Tags`.

    Attributes:
        name: the pool's.
        free: slots that run nothing.
        anticipation: rows that are likely to come at once.

    Args:
        pool: what it is.
        policy: how levels share it.
    """

    def __init__(self, pool: Pool, policy: Policy) -> None:
        self.name, self.free = pool.name, pool.slots
        self.anticipation = Anticipation()
        self._policy, self._slots = policy, pool.slots
        self._hanging: Counter[str] = Counter()  # runs that hang, by lane
        self._lanes: dict[str, Lane] = {}
        self._shares: dict[tuple[int, int], Share] = {}  # of the second level, against the first
        self._tags: dict[int, Tags[str]] = {}

    def add(self, lane: Lane) -> None:
        """A lane can run here."""
        self._lanes[lane.name] = lane
        for number in lane.levels:
            self._tags.setdefault(number, Tags())
            for above in range(1, number):
                self._shares.setdefault((above, number), Share(self._policy.share, self._policy.reserve))

    def forget(self, lane: Lane) -> None:
        """A lane is there no more."""
        del self._lanes[lane.name]
        for tags in self._tags.values():
            tags.forget(lane.name)

    def hung(self, lane: Lane) -> None:
        """A run of a lane hangs here: its slot is lost, and the lane is given no other."""
        self._hanging[lane.name] += 1

    def returned(self, lane: Lane) -> None:
        """A run that hung has returned after all."""
        self._hanging -= Counter([lane.name])

    def serves(self, lane: Lane) -> bool:
        """Whether a lane has a chance to run here."""
        return not self._hanging or (not self._hanging[lane.name] and self._hanging.total() < self._slots)

    def room(self, lane: Lane) -> int:
        """Batches that a lane could begin here now."""
        if self._hanging[lane.name]:
            return 0
        return min(self.free, lane.spec.instances[self.name] - lane.running[self.name])

    def turn(self, now: float) -> tuple[Turn | None, float]:
        """Whose turn it is.

        Returns:
            What to serve, None if there is nothing; and when to ask again, as an open window closes or a slot is
            kept free no longer, ``inf`` if there is neither.
        """
        ready, wake = [], inf
        for lane in self._lanes.values():
            if lane.waiting and self.room(lane) > 0:
                until = lane.holds_until(self.name, now)
                if until > now:
                    wake = min(wake, until)
                else:
                    ready.append(lane)
        if not ready:
            return None, wake
        top = min(lane.top() for lane in ready)
        overdue: dict[int, tuple[float, Lane]] = {}
        for lane in ready:
            for number, level in lane.levels.items():
                due = level.due if number > top and level.count else inf
                if due <= now and (number not in overdue or due < overdue[number][0]):
                    overdue[number] = due, lane
        if claims := [(due, number) for number, (due, _) in overdue.items() if self._shares[top, number].claims]:
            number = min(claims)[1]
            chosen = overdue[number][1]
            overdue = {}  # what is served in their share they do not share in
        else:
            number, tags = top, self._tags[top]
            if (until := self.anticipation.free_at(self.free, number, now)) > now:
                return None, min(wake, until)
            chosen = min((lane for lane in ready if lane.top() == top), key=lambda lane: tags[lane.name])
        others = sum(lane.waiting for lane in ready) - chosen.waiting
        return Turn(chosen, chosen.levels[number], tuple(overdue), others), wake

    def served(self, turn: Turn, seconds: float) -> None:
        """A turn is taken, for so long."""
        number = turn.level.number
        self._tags[number].serve(turn.lane.name, seconds)
        for above in range(1, number):
            self._shares[above, number].spend(seconds)
        for below in turn.passed:
            self._shares[number, below].earn(seconds / len(turn.passed))
