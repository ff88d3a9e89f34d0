"""The scheduler's owner: the event loop tells it what comes, and the threads what has run, one at a time.

A thread whose run has ended asks what is next and runs that, while another reads the answers. So a slot waits neither
until its rows are decoded nor until the event loop has time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Any

from kniv.server.errors import InferenceError
from kniv.server.scheduling.execute import Executed, read
from kniv.server.scheduling.machine import Scheduler
from kniv.server.scheduling.pending import Pending, dropped, stranded
from kniv.server.scheduling.row import BatchTimes, Done
from kniv.server.scheduling.run import Run
from kniv.server.scheduling.work import Dispatch, Drop, Expire, Hang, Idle, Item, Refusal, Stop, WakeAt

THREADS = 2  # for each slot: one runs, and one reads what has run before

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A batch that has run.

    Attributes:
        run: the batch.
        result: what came out.
        answered: by place, the rows whose answers are to be read from it.
        failed: rows that have ended otherwise, and what they fail with.
        unanswered: number of rows that are wanted and have no answer, those that will be run again included.
        returned: whether it was taken to hang.
    """

    run: Run
    result: Executed
    answered: dict[int, Pending[Any]]
    failed: list[tuple[Pending[Any], Exception]]
    unanswered: int
    returned: bool


class Owner:
    """Carries out what a scheduler decides; ``with`` it, the scheduler is this thread's alone.

    Args:
        scheduler: the state machine.
        executor: :data:`THREADS` for each slot; with fewer, answers are not read while all threads run.
        clock: seconds that never go back.
        settle: given on the loop each row that has ended, with its answer or what it fails with.
        changed: told on the loop when a run is found to hang, and when one that hung has returned.
        wake: told on the loop when it is to look for what to do next: answers have come, or it would look too late.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        clock: Callable[[], float],
        settle: Callable[[Pending[Any], Any], None],
        changed: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._scheduler, self._executor, self._clock = scheduler, executor, clock
        self._settle, self._changed, self._wake = settle, changed, wake
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop
        self._rows: dict[int, Pending[Any]] = {}
        self._runs: dict[int, Run] = {}  # by batch, those that hang among them
        self._unread: set[Run] = set()  # have ended, but the loop has not been told
        self._news: list[Callable[[], object]] = []  # for the loop
        self._looks_at = inf  # when it will do so by itself

    def __enter__(self) -> Scheduler:
        self._lock.acquire()
        return self._scheduler

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    # On the event loop.

    def admit(self, pending: Pending[Any], item: Item) -> Refusal | None:
        """Take a row, or say why not."""
        with self._lock:
            refusal = self._scheduler.admit(item, self._clock())
            if refusal is None:
                pending.number = item.id
                self._rows[item.id] = pending
        return refusal

    def give_up(self, pending: Pending[Any]) -> bool:
        """A row is not wanted any more; whether it was waiting or running."""
        with self._lock:
            if self._rows.pop(pending.number, None) is None:
                return False
            batch = self._scheduler.cancel(pending.number, self._clock())
            if batch is not None:
                self._runs[batch].stop()
        return True

    def held(self) -> list[Pending[Any]]:
        """Rows that wait or run."""
        with self._lock:
            return list(self._rows.values())

    def over(self, lane: str) -> bool:
        """Whether nothing is left of a lane, or with '' of any."""
        with self._lock:
            if lane:
                return not (self._scheduler.has_lane(lane) or any(run.lane.spec.name == lane for run in self._unread))
            return not (self._scheduler.items or self._scheduler.running or self._unread)

    def look(self) -> float:
        """Do what is to be done now; when to look again, ``inf`` for not before something comes."""
        self._loop = asyncio.get_running_loop()
        with self._lock:
            begun, self._looks_at = self._decide()
            news, self._news = self._news, []
            wake = self._looks_at
        for run in begun:
            self._start(run)
        for tell in news:
            try:
                tell()
            except Exception:  # an observer's; the other rows are to hear of their ends
                log.exception("what has become of a row could not be told")
        return wake

    # In whatever thread.

    def _decide(self) -> tuple[list[Run], float]:
        """Batches to be started now, and when to look again; the lock is held."""
        begun: list[Run] = []
        while True:
            now = self._clock()
            match self._scheduler.next(now):
                case Dispatch(batch, pool):
                    rows = tuple(self._rows[number] for number in batch.items)
                    for pending in rows:
                        pending.begins(now)
                    run = self._runs[batch.id] = Run(batch, pool, rows, now)
                    begun.append(run)
                case Expire(items, abandoned):
                    for number, reason in items:
                        self._news.append(partial(self._expired, self._rows.pop(number), reason))
                    for number in abandoned:
                        self._runs[number].stop()
                case Stop(number):
                    log.warning("a run of %s takes too long and is stopped", self._runs[number].lane.name)
                    self._runs[number].late = True
                    self._runs[number].stop()
                case Hang() as hang:
                    failed, lost = (
                        [self._rows.pop(number) for number in rows] for rows in (hang.failed, hang.stranded)
                    )
                    self._news.append(partial(self._hangs, self._runs[hang.batch], failed, lost))
                case WakeAt(then):
                    return begun, then
                case Idle():
                    return begun, inf

    def _start(self, run: Run) -> None:
        try:
            self._submit(partial(self._serve, run))
        except Exception as error:  # no threads any more, or no memory
            self._loop.call_soon_threadsafe(self._unable, run, error)

    def _claim(self, run: Run) -> bool:
        """Begin with a batch, once: an executor that cannot start a thread refuses work, but may do it later."""
        with self._lock:
            claimed, run.claimed = run.claimed, True
        return not claimed

    def _submit(self, work: Callable[[], None]) -> None:
        self._executor.submit(work).add_done_callback(Future.result)  # what it raises is logged

    def _end(self, run: Run, result: Executed) -> tuple[_Ended, Run | None]:
        """A batch has run: what has become of it, and what is to be run next."""
        places = {number: place for place, number in enumerate(run.batch.items)}
        suspects = {number for number, place in places.items() if place in result.failures}
        with self._lock:
            hung = self._scheduler.hung
            rows = self._scheduler.complete(run.batch.id, self._clock(), result.input + result.infer, suspects)
            del self._runs[run.batch.id]
            self._unread.add(run)
            answered = {places[number]: self._rows.pop(number) for number in rows.answered}
            failed = [(self._rows.pop(number), result.failures[places[number]]) for number in rows.failed]
            lost = [(self._rows.pop(number), stranded()) for number in rows.stranded]
            returned = self._scheduler.hung < hung
            ended = _Ended(run, result, answered, [*failed, *lost], rows.unanswered, returned)
            begun, wake = self._decide()
            sooner, self._looks_at = wake < self._looks_at, min(wake, self._looks_at)
        if sooner:  # a slot is kept free until then; the answers may take longer to read
            self._call(self._wake)
        for other in begun[1:]:
            self._start(other)
        return ended, begun[0] if begun else None

    # In worker threads.

    def _serve(self, run: Run) -> None:
        """Run a batch, and as long as there is one the next."""
        following = run if self._claim(run) else None
        while following is not None:
            ended, following = self._end(following, following.execute())
            # Reading that falls behind holds up its slot: nothing else bounds how many outputs wait to be read.
            behind = len(self._unread) > 2 * len(self._runs)
            if following is None or not ended.answered or behind:
                self._read(ended)
                continue
            try:
                self._submit(partial(self._read, ended))
            except Exception:  # no threads any more, or no memory
                self._read(ended)

    def _read(self, ended: _Ended) -> None:
        began, result = perf_counter(), ended.result
        answers = read(result, [pending.row for pending in ended.run.rows], ended.answered)
        times = BatchTimes(result.input, result.infer, perf_counter() - began)
        self._call(self._tell, ended, answers, times)

    def _call(self, tell: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has been closed: a run that hung has returned too late
            self._loop.call_soon_threadsafe(tell, *arguments)

    # On the event loop again.

    def _tell(self, ended: _Ended, answers: Mapping[int, Any], times: BatchTimes) -> None:
        run = ended.run
        if run not in self._unread:  # read before, though its thread was refused
            return
        self._unread.discard(run)
        for place, pending in ended.answered.items():
            answer = answers[place]
            self._settle(pending, answer if isinstance(answer, Exception) else Done(answer, pending.queued, times))
        for pending, failure in ended.failed:
            self._settle(pending, failure)
        if ended.returned:
            log.warning("a run of %s on %s that hung has returned", run.lane.name, run.pool)
            self._changed()
        self._wake()
        unreadable = sum(isinstance(answer, Exception) for answer in answers.values())
        run.lane.observer.ran(run.report(len(answers) - unreadable, ended.unanswered + unreadable, times))

    def _unable(self, run: Run, error: Exception) -> None:
        """A batch was refused a thread."""
        if not self._claim(run):
            return
        ended, following = self._end(run, run.unable(error))
        if following is not None:
            self._start(following)
        self._tell(ended, {}, BatchTimes(0, 0, 0))

    def _expired(self, pending: Pending[Any], reason: Drop) -> None:
        pending.lane.observer.dropped(reason)
        self._settle(pending, dropped(reason))

    def _hangs(self, run: Run, failed: list[Pending[Any]], lost: list[Pending[Any]]) -> None:
        for pending in failed:
            self._settle(pending, InferenceError("the model did not return from a run with this sentence"))
        for pending in lost:
            self._settle(pending, stranded())
        log.critical("a run of %s on %s hangs: it was told to stop and did not", run.lane.name, run.pool)
        run.lane.observer.hung(run.pool)
        self._changed()
