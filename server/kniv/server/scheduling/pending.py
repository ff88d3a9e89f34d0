"""A row whose caller waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kniv.server.errors import DeadlineError, NotReadyError, OverloadedError, StoppingError, UnavailableError
from kniv.server.scheduling.row import Done, Row
from kniv.server.scheduling.urgency import Urgency
from kniv.server.scheduling.work import Drop, Item, Reason, Refusal

if TYPE_CHECKING:
    from kniv.server.scheduling.handle import Lane

T = TypeVar("T")


class Pending(Generic[T]):
    """A row that has no answer yet.

    Attributes:
        number: the scheduler's id of it, 0 until it is admitted.
        came: when it was submitted.
        queued: seconds until it ran; negative before.
        answer: what its caller waits for.
    """

    __slots__ = ("answer", "came", "lane", "number", "queued", "row", "urgency")

    def __init__(self, lane: Lane, row: Row[T], urgency: Urgency, came: float) -> None:
        self.lane, self.row, self.urgency, self.came = lane, row, urgency, came
        self.number, self.queued = 0, -1.0
        self.answer: asyncio.Future[Done[T]] = asyncio.get_running_loop().create_future()

    def item(self, number: int, lane: str) -> Item:
        """The row as the scheduler sees it."""
        row, urgency = self.row, self.urgency
        return Item(
            id=number,
            lane=lane,
            length=len(row.ids),
            outputs=tuple(sorted(row.outputs)),  # whatever the order, the same work
            level=urgency.level,
            client=urgency.client,
            account=urgency.account,
            size=row.ids.nbytes,
            final=urgency.final,
            deadline=urgency.deadline,
            timeout=urgency.timeout,
            arrival=urgency.arrival,
            leads=urgency.leads,
            patient=urgency.patient,
        )

    def begins(self, now: float) -> None:
        """It is about to run, maybe not for the first time."""
        if self.queued < 0:
            self.queued = now - self.came

    def settle(self, answer: Any) -> None:
        """Answer the caller, or let it fail if the answer is an exception."""
        # It may have gone in this turn of the loop, and be told only in the next.
        if self.answer.done():
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)

    def forget(self) -> None:
        """The caller does not look at the answer any more."""
        if self.answer.done() and not self.answer.cancelled():
            self.answer.exception()  # or asyncio would complain that nobody did


def refused(refusal: Refusal) -> OverloadedError | NotReadyError | DeadlineError | UnavailableError:
    """What a row that is refused fails with."""
    if refusal.reason is Reason.LANE_CLOSED:
        return NotReadyError("this version of the model is about to be unloaded")
    if refusal.reason is Reason.HUNG:
        return stranded()
    if refusal.reason is Reason.EXPIRED:
        return DeadlineError("the deadline passed before the work began")
    return OverloadedError(refusal.reason, refusal.retry_after)


def stranded() -> UnavailableError:
    """What a row fails with that has nowhere to run."""
    return UnavailableError("a run of this model hangs; another server may answer")


def handed_back() -> StoppingError:
    """What a row fails with that the server has no time left for."""
    return StoppingError("the server is stopping and has no time left for this; send it to another")


def dropped(reason: Drop) -> DeadlineError:
    """What a row fails with whose time is up."""
    what = "the deadline" if reason is Drop.DEADLINE else "the queue timeout of its priority level"
    return DeadlineError(f"{what} passed before there was an answer")
