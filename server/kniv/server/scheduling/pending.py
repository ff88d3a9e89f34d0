"""Rows whose caller waits for them."""

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


class Answers(Generic[T]):
    """What the caller of rows that were submitted together waits for.

    Attributes:
        ready: all of them, in the order of the rows; fails with the first row that does.
    """

    __slots__ = ("_answers", "_left", "ready")

    def __init__(self, rows: int) -> None:
        self._answers: list[Any] = [None] * rows
        self._left = rows
        self.ready: asyncio.Future[list[Done[T]]] = asyncio.get_running_loop().create_future()
        if not rows:
            self.ready.set_result([])

    def settle(self, place: int, answer: Done[T] | Exception) -> None:
        """A row has ended, once."""
        # The caller may have gone in this turn of the loop, and be told only in the next.
        if self.ready.done():
            return
        if isinstance(answer, Exception):
            self.ready.set_exception(answer)
            return
        self._answers[place] = answer
        self._left -= 1
        if not self._left:
            self.ready.set_result(self._answers)

    def forget(self) -> None:
        """The caller does not look at them any more."""
        if self.ready.done() and not self.ready.cancelled():
            self.ready.exception()  # or asyncio would complain that nobody did


class Pending(Generic[T]):
    """A row that has no answer yet.

    Attributes:
        number: the scheduler's id of it, 0 until it is admitted.
        came: when it was submitted.
        queued: seconds until it ran; negative before.
        answers: where its answer goes, in its place.
    """

    __slots__ = ("answers", "came", "lane", "number", "place", "queued", "row", "urgency")

    def __init__(self, lane: Lane, row: Row[T], urgency: Urgency, came: float, answers: Answers[T], place: int) -> None:
        self.lane, self.row, self.urgency, self.came = lane, row, urgency, came
        self.number, self.queued = 0, -1.0
        self.answers, self.place = answers, place

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

    def settle(self, answer: Done[T] | Exception) -> None:
        """Answer the caller, or let it fail if the answer is an exception."""
        self.answers.settle(self.place, answer)


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
