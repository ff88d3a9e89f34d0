"""On whose behalf a row is run, and how urgent it is."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import inf

from kniv.server.scheduling.policy import Account
from kniv.server.scheduling.trail import NO_TRAIL, Trail


@dataclass(frozen=True, slots=True)
class Urgency:
    """How a row stands among the others.

    Attributes:
        level: priority level, 1 the most urgent; 0 for the model's default, and the lowest for any below it.
        client: whom it is for; clients of one level get equal parts, and each has its quota.
        account: bounds that it shares with other clients.
        final: whether its text is here to stay; partial turns give way to final ones of their level.
        deadline: when its answer is of no use any more, on the engine's clock.
        timeout: seconds that it may wait in the queue, where the level's policy allows requests to say; 0 for none.
        patient: whether to wait for room when there is none, instead of being refused: for streams, which are
            slowed by it.
        arrival: for a row that continues work which has had answers already, when that work came; None for new
            work. Such rows go before the client's later ones and are not refused.
        leads: whether rows that continue it are likely to come as soon as it is answered; a slot is kept for them.
        trail: told what happens to the item that it is part of.
    """

    level: int = 0
    client: Hashable = None
    account: Account | None = None
    final: bool = True
    deadline: float = inf
    timeout: float = 0.0
    patient: bool = False
    arrival: float | None = None
    leads: bool = False
    trail: Trail = NO_TRAIL

    def continuing(self, arrival: float) -> Urgency:
        """The urgency of rows that follow from the answer to one which came then."""
        return replace(self, arrival=arrival, leads=False)
