"""Whether a row is taken: bounds on what is held, and no waiting in vain."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from kniv.server.scheduling.admission import Ledger
from kniv.server.scheduling.effort import Effort
from kniv.server.scheduling.lane import Lane
from kniv.server.scheduling.policy import Admission
from kniv.server.scheduling.work import Item, Reason, Refusal

_LONGEST_RETRY = 30.0
# Of the time to its deadline, what a row may be expected to wait. Some wait longer; its batch comes after, what follows
# from that, and an event loop that is as busy as all else.
_HOPE = 0.4


class Entrance:
    """Objects to new rows.

    Args:
        admission: how much may be held.

    Attributes:
        ledger: what is held.
        effort: what rows take.
        slots: of all devices.
    """

    def __init__(self, admission: Admission) -> None:
        self.ledger, self.effort, self.slots = Ledger(admission), Effort(), 0

    def objection(self, item: Item, lane: Lane, lanes: Iterable[Lane], now: float) -> Refusal | None:
        """Why a row is not taken; None if it is.

        Args:
            item: the row.
            lane: what is to run it.
            lanes: all that there are.
            now: the time.
        """
        number = lane.level_of(item.level)
        most = lane.policy_of(number).max_queue_size
        waiting = lane.levels[number].count
        if most and waiting >= most:
            reason, ahead = Reason.LEVEL_FULL, waiting
        elif (found := self.ledger.objection(item)) is not None:
            reason, ahead = found
        else:
            return self._too_late(item, number, lanes, now)
        # Half of them gone is room enough, and the machine is not idle by then.
        return Refusal(reason, min(ahead * self.effort.pace / self.slots / 2, _LONGEST_RETRY))

    def _too_late(self, item: Item, number: int, lanes: Iterable[Lane], now: float) -> Refusal | None:
        """Refuse a row at once that would most likely be given up in the queue, or too late to be of use.

        Under overload this keeps what is admitted useful: rows that wait until they expire would otherwise keep
        the next ones waiting as long.
        """
        if item.deadline == inf:
            return None
        ahead = sum(lane.ahead(number, item.client) for lane in lanes)
        wait, hope = ahead * self.effort.seconds / self.slots, _HOPE * (item.deadline - now)
        return Refusal(Reason.TOO_LATE, min(wait - hope, _LONGEST_RETRY)) if wait > hope else None
