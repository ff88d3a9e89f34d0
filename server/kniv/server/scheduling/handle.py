"""A lane as those see it who have rows for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from kniv.server.scheduling.execute import Runner
from kniv.server.scheduling.observe import Observer
from kniv.server.scheduling.policy import LaneSpec
from kniv.server.scheduling.row import Done, Row
from kniv.server.scheduling.urgency import Urgency

if TYPE_CHECKING:
    from kniv.server.scheduling.engine import Engine

T = TypeVar("T")


class Lane:
    """Where rows of one variant are answered; made by :meth:`Engine.lane`."""

    def __init__(
        self, engine: Engine, name: str, spec: LaneSpec, runners: Mapping[str, Runner], observer: Observer
    ) -> None:
        self.name, self.spec, self.runners, self.observer = name, spec, runners, observer
        self._engine = engine

    async def submit(self, row: Row[T], urgency: Urgency) -> Done[T]:
        """Wait for a row's turn and answer; see :meth:`submit_all`."""
        return (await self._engine.submit(self, (row,), urgency))[0]

    async def submit_all(self, rows: Sequence[Row[T]], urgency: Urgency) -> list[Done[T]]:
        """Wait for the turns and answers of rows that come together. Cancelling gives them up, wherever they are.

        The first row that fails gives up the others.

        Raises:
            OverloadedError: there is no room, and the rows are not patient.
            DeadlineError: their deadline or their level's queue timeout has passed.
            InferenceError: the model or the reading of its outputs failed on a row.
            NotReadyError: the lane is closed.
            UnavailableError: runs of the lane hang, and it has nowhere left to run.
            StoppingError: the engine is closed.
        """
        return await self._engine.submit(self, rows, urgency)

    def check(self, urgency: Urgency) -> None:
        """Refuse work before it is made into rows, if a row of it would be refused now; see :meth:`Engine.check`."""
        self._engine.check(self, urgency)

    @property
    def hangs(self) -> bool:
        """Whether it has nowhere left to run, as runs of it do not return."""
        return self._engine.hangs(self)

    def waiting(self) -> dict[int, int]:
        """Rows that wait, by level."""
        return self._engine.waiting(self)

    def level(self, asked: int) -> int:
        """The level of a row that asks for this one."""
        return min(asked or self.spec.batching.default_level, self.spec.batching.levels)

    async def close(self) -> None:
        """Take no new rows and wait until all that are here have ended; rows that continue such work are taken."""
        await self._engine.close_lane(self)
