"""What each caller uses now, and whether it may use more."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager

from kniv.server.errors import OverloadedError
from kniv.server.security.bucket import Bucket
from kniv.server.security.caller import Bounds, Caller

_CALLS_RETRY = 1.0  # seconds; when one of the calls will end is not known
_KEPT = 1024  # callers, from which on those that use nothing are looked for
_TOLD_AGAIN = 60.0  # seconds after which a refusal for the same reason is news again
_MESSAGES, _BYTES = "caller_message_rate", "caller_byte_rate"


class Quota:
    """One caller's use of the server; to be used on one event loop only.

    Args:
        bounds: how much it may use.
        burst_seconds: so much of each rate may come at once.
        clock: seconds that never go back.
    """

    def __init__(self, bounds: Bounds, burst_seconds: float, clock: Callable[[], float]) -> None:
        self._burst, self._clock, self._calls = burst_seconds, clock, 0
        self._told: dict[str, float] = {}
        self.bound(bounds)

    def bound(self, bounds: Bounds) -> None:
        """Put other bounds in force; what has been sent so far does not count against new rates."""
        self.bounds = bounds
        now, rates = self._clock(), {_MESSAGES: bounds.messages_per_second, _BYTES: bounds.bytes_per_second}
        # At least one message may come at once, however rare they are to be.
        self._buckets = {why: Bucket(rate, max(1.0, rate * self._burst), now) for why, rate in rates.items() if rate}

    @property
    def unused(self) -> bool:
        """Whether it is as if the caller had never been here."""
        now = self._clock()
        return not self._calls and all(bucket.full(now) for bucket in self._buckets.values())

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call or stream that is under way.

        Raises:
            OverloadedError: there are as many as may be.
        """
        if 0 < self.bounds.calls <= self._calls:
            raise OverloadedError("caller_calls", _CALLS_RETRY)
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    def spend(self, size: int) -> None:
        """Take note of a message.

        Args:
            size: its bytes.
        """
        for why, bucket in self._buckets.items():
            bucket.take(size if why == _BYTES else 1, self._clock())

    def admit(self, size: int) -> None:
        """Take note of a message, unless the caller has sent too much lately.

        Args:
            size: its bytes.

        Raises:
            OverloadedError: it has.
        """
        for why, bucket in self._buckets.items():
            if (wait := bucket.wait(self._clock())) > 0:
                raise OverloadedError(why, wait)
        self.spend(size)

    def news(self, why: str) -> bool:
        """Whether a refusal is worth a line in the log: the last for this reason is a minute past."""
        now = self._clock()
        if now < self._told.get(why, -math.inf) + _TOLD_AGAIN:
            return False
        self._told[why] = now
        return True

    async def pace(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Wait until the caller may send another message."""
        while (wait := max((bucket.wait(self._clock()) for bucket in self._buckets.values()), default=0.0)) > 0:
            await sleep(wait)


class Quotas:
    """The callers' quotas, kept while they are used.

    Args:
        bounds: of callers that have none of their own.
        burst_seconds: so much of each rate may come at once.
        apart: whether anonymous callers are told apart by their address, or counted as one.
        clock: seconds that never go back.
    """

    def __init__(
        self, bounds: Bounds, burst_seconds: float, *, apart: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds, self._burst, self._apart, self._clock = bounds, burst_seconds, apart, clock
        self._quotas: dict[Hashable, Quota] = {}
        self._look_at = _KEPT

    def key(self, caller: Caller) -> tuple[str, str]:
        """What calls of one caller have in common."""
        name = caller.name if caller.proof is not caller.proof.NONE or self._apart else ""
        return caller.proof.value, name

    def of(self, caller: Caller) -> Quota:
        """A caller's quota."""
        key, bounds = self.key(caller), caller.bounds or self._bounds
        quota = self._quotas.get(key)
        if quota is None:
            if len(self._quotas) >= self._look_at:
                self._quotas = {key: quota for key, quota in self._quotas.items() if not quota.unused}
                self._look_at = max(_KEPT, 2 * len(self._quotas))
            quota = self._quotas[key] = Quota(bounds, self._burst, self._clock)
        elif quota.bounds != bounds:  # its entry in the callers' file has changed
            quota.bound(bounds)
        return quota
