"""The scheduler's commands and decisions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TypeAlias

from kniv.server.scheduling.policy import Account


@dataclass(frozen=True, slots=True)
class Item:
    """A row that asks to be run. Times are seconds of the scheduler's clock.

    Attributes:
        id: unique among the rows that are here.
        lane: what is to run it.
        length: subwords.
        outputs: the graph's outputs wanted; only rows that want the same share a batch.
        level: 1 is the most urgent; 0 for the lane's default; below the lane's last level counts as that.
        client: on whose behalf; clients of one level share fairly.
        account: bounds that it shares with other clients.
        size: bytes that it holds.
        final: whether it is here to stay; finals go before partials of the same level.
        deadline: when its answer is of no use any more.
        timeout: seconds that it may wait in the queue, where the level's policy lets a row say so; 0 for no limit.
        arrival: for a row that continues work admitted earlier, when that came; None for new work.
        leads: whether rows that continue it are likely to come as soon as it is answered.
        patient: whether its caller waits for room; a part of the room is kept for those who do not.
    """

    id: int
    lane: str
    length: int
    outputs: tuple[str, ...]
    level: int = 0
    client: Hashable = None
    account: Account | None = None
    size: int = 0
    final: bool = True
    deadline: float = inf
    timeout: float = 0.0
    arrival: float | None = None
    leads: bool = False
    patient: bool = False


class Reason(StrEnum):
    """Why a row is refused."""

    QUEUE_FULL = "queue_full"
    QUEUE_BYTES = "queue_bytes"
    CLIENT_QUOTA = "client_quota"
    CLIENT_BYTES = "client_bytes"
    CALLER_ROWS = "caller_rows"
    CALLER_BYTES = "caller_bytes"
    LEVEL_FULL = "level_full"
    TOO_LATE = "too_late"
    LANE_CLOSED = "lane_closed"
    HUNG = "hung"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row is not taken.

    Attributes:
        reason: why.
        retry_after: seconds after which trying again has a chance; 0 if it never has.
    """

    reason: Reason
    retry_after: float = 0.0


class Drop(StrEnum):
    """Why a row that was admitted ends without an answer."""

    DEADLINE = "deadline"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to be run together.

    Attributes:
        id: to be named when it is complete.
        lane: what runs it.
        items: ids of its rows.
        length: subwords that each row is to be padded to.
    """

    id: int
    lane: str
    items: tuple[int, ...]
    length: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run a batch on a pool now."""

    batch: Batch
    pool: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Rows whose time is up have ended.

    Attributes:
        items: ids with the reason of each.
        abandoned: running batches that have thereby lost their last row, and are to be stopped.
    """

    items: tuple[tuple[int, Drop], ...]
    abandoned: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """A batch that has run too long is to be told to stop."""

    batch: int


@dataclass(frozen=True, slots=True)
class Hang:
    """A batch was told to stop and has not returned; until it does, its slot is lost and its lane idle on its pool.

    Attributes:
        batch: its id.
        pool: where it hangs.
        failed: ids of its rows, which have ended.
        stranded: ids of waiting rows that can run nowhere any more, and have ended.
    """

    batch: int
    pool: str
    failed: tuple[int, ...]
    stranded: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Nothing to do before this time, unless a command comes."""

    time: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do until a command comes."""


Decision: TypeAlias = Dispatch | Expire | Stop | Hang | WakeAt | Idle


@dataclass(frozen=True, slots=True)
class Completion:
    """What has become of a batch's rows; those that are in no list have ended before, or will be run again.

    Attributes:
        answered: ids of rows that end with their answer.
        failed: ids of rows that end as failed: they were run alone and failed.
        stranded: ids of rows that would be run again, but that can run nowhere any more, and have ended.
        unanswered: how many rows that are wanted have no answer, those that will be run again included.
    """

    answered: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    stranded: tuple[int, ...] = ()
    unanswered: int = 0
