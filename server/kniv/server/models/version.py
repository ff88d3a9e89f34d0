"""One version of a model while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType

from kniv.server.errors import NotFoundError, shown
from kniv.server.models.opening import OpenedVersion
from kniv.server.models.statistics import CountedRows, Statistics
from kniv.server.pipeline.annotate import Annotator
from kniv.server.repository.metadata import Metadata
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.handle import Lane
from kniv.server.scheduling.observe import Both, Observer
from kniv.server.scheduling.policy import BatchLimits, Pool
from kniv.server.scheduling.trail import Kind, Trail, trails
from kniv.server.scheduling.urgency import Urgency
from kniv.server.together import together


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the server runs models.

    Attributes:
        engine: decides which row runs when.
        slots: runs side by side on each device.
        limits: size of a batch.
        observe: what is to be told, beside the statistics, of a model's version and variant; None for nothing.
    """

    engine: Engine
    slots: int
    limits: BatchLimits
    observe: Callable[[str, int, str], Observer | None] = lambda model, version, variant: None


class LoadedVersion:
    """A version that answers, until it is retired and its last lease has ended.

    Args:
        opened: the version's files and sessions.
        options: how to run it.
    """

    def __init__(self, opened: OpenedVersion, options: RunOptions) -> None:
        self.opened = opened
        self.model, self.number = opened.files.model, opened.files.version
        self.statistics = Statistics()
        self.rows: dict[str, CountedRows] = {}
        self._lanes: list[Lane] = []
        self._annotators: dict[str, Annotator] = {}
        for name, variant in opened.variants.items():
            for device in variant.sessions:
                options.engine.add_pool(Pool(device, options.slots))
            also = options.observe(self.model, self.number, name)
            lane = options.engine.lane(
                f"{self.model}/{self.number}/{name}",
                variant.sessions,
                opened.config.batching,
                replace(options.limits, rows=min(options.limits.rows, opened.config.max_batch_size)),
                variant.instances,
                self.statistics if also is None else Both(self.statistics, also),
            )
            self._lanes.append(lane)
            self.rows[name] = CountedRows(lane, self.statistics)
            weights = [session.relation_weight for session in variant.sessions.values()]
            weight = None if any(one is None for one in weights) else weights[0]
            self._annotators[name] = Annotator(opened.labels, opened.encoder, self.rows[name], weight)
        self._leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def hangs(self) -> bool:
        """Whether runs of one of its variants do not return, so that it cannot be relied upon."""
        return any(lane.hangs for lane in self._lanes)

    @property
    def default_variant(self) -> str:
        """The variant that answers where none is named."""
        return next(iter(self.rows))

    def lease(self, variant: str) -> Lease:
        """Hold the version for a request.

        Args:
            variant: name of the variant; empty for the default one.

        Raises:
            NotFoundError: there is no such variant.
        """
        name = variant or self.default_variant
        if name not in self.rows:
            known = ", ".join(self.rows)
            raise NotFoundError(
                f"model '{self.model}' version {self.number} has no variant {shown(name)}; there are: {known}"
            )
        self._leases += 1
        self._unused.clear()
        return Lease(self, name, self._annotators[name])

    async def unused(self) -> None:
        """Wait until no lease is left."""
        await self._unused.wait()

    async def retire(self) -> None:
        """Wait until no lease is left, then give up the places in the scheduler, and the sessions.

        No lease may be taken any more.
        """
        await self.unused()
        await together(rows.close() for rows in self.rows.values())
        # Calls that were cut short are held by their tracebacks until garbage is collected, and the version by them.
        for variant in self.opened.variants.values():
            variant.sessions.clear()

    def ended(self) -> None:
        """A lease has ended; called by it alone."""
        self._leases -= 1
        if not self._leases:
            self._unused.set()


class Lease:
    """The right to use one variant of a version: what a request runs on, from its start to its end.

    A version that is reloaded or unloaded goes on for those that hold it.
    """

    def __init__(self, loaded: LoadedVersion, variant: str, annotator: Annotator) -> None:
        self.version, self.variant, self.annotator = loaded, variant, annotator
        self._held = True

    @property
    def limits(self) -> Metadata:
        """The version's limits."""
        return self.version.opened.limits

    def check(self, urgency: Urgency) -> None:
        """Refuse work before anything is done for it, if its rows would be refused now.

        Raises:
            OverloadedError, DeadlineError: see :meth:`kniv.server.scheduling.engine.Engine.check`.
        """
        self.version.rows[self.variant].check(urgency)

    def release(self) -> None:
        """End the lease; a second time does nothing."""
        if self._held:
            self._held = False
            self.version.ended()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def trail_on(lease: Lease, kind: Kind, name: str = "") -> Trail:
    """What is to be told what happens to an item that runs on a version; ``name`` is the caller's for it."""
    return trails().begin(kind, lease.version.model, lease.version.number, lease.variant, name)
