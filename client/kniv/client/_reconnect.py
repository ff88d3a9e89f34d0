"""When a broken stream is opened again: which ends are breaks, and how long to wait (AIP-194, gRPC A6)."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from kniv.client._errors import KnivError

log = logging.getLogger("kniv.client")

OPENING_ATTEMPTS = 4  # as many as an AnnotateText call has
# A reset by whatever stands between client and server reaches gRPC as one of these, with no word from the server; so
# does an end without a status, which a balancer makes of a connection that was closed, and a call that gRPC gave up
# at the server's end before any handler had it (grpc/grpc#41785): that says "CANCELLED" and nothing else, where a call
# that the caller cancels says by whom.
_RESET_CODES = ("CANCELLED", "INTERNAL", "UNKNOWN")
# Servers end streams that are old, idle or past their token's time, so that they are opened anew.
_BY_DESIGN = frozenset({"STREAM_AGE", "STREAM_IDLE", "CREDENTIALS_EXPIRED"})
_RESET_WORDS = re.compile(r"RST_STREAM|GOAWAY|END_STREAM flag|Socket closed|Connection reset|Broken pipe|^CANCELLED$")


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """A stream's connection broke, or could not be made anew.

    ``error`` says why, ``attempt`` counts from 1 since something last came of the stream, ``delay_s`` is the time
    until the next attempt, and ``unanswered`` the number of items that will be sent again.
    """

    error: KnivError
    attempt: int
    delay_s: float
    unanswered: int


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a stream goes on when its connection breaks.

    It is opened again after a random time between 0 and a bound, which is ``initial_delay_s`` at first and is
    multiplied by ``multiplier`` up to ``max_delay_s`` each time that nothing has come of it ("full jitter"). Where the
    server asks for a time, the random one is added to it. After ``patience_s`` of that the stream fails with the last
    error; time in which the stream has nothing to be opened for does not count.

    What has no answer yet is kept to be sent again, up to ``max_held_bytes``: beyond that, sending waits for answers.
    A document that is still being sent can have none; where there is no room for it, it is not kept, and fails with
    an UnavailableError if the connection breaks.

    ``listener`` is told of every break, in the thread or task that reads the stream; it must return at once.
    """

    initial_delay_s: float = 0.1
    max_delay_s: float = 5.0
    multiplier: float = 2.0
    patience_s: float = 60.0
    max_held_bytes: int = 64 * 2**20
    listener: Callable[[ConnectionLost], None] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.initial_delay_s <= self.max_delay_s or self.multiplier < 1 or self.patience_s < 0:
            raise ValueError("Reconnect: needs 0 < initial_delay_s <= max_delay_s, multiplier >= 1 and patience_s >= 0")


DEFAULT_RECONNECT = Reconnect()


class Backoff:
    """Counts attempts and says how long to wait for the next.

    ``clock`` gives seconds, ``draw`` a number from 0 to 1.
    """

    def __init__(
        self,
        policy: Reconnect,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._policy, self._clock, self._draw = policy, clock, draw
        self._since: float | None = None
        self.failures = 0

    def progressed(self) -> None:
        """Something came of the stream: the next break is a new one."""
        self._since, self.failures = None, 0

    def wanted(self) -> None:
        """There is something to make a call for again, after a time without: patience begins with the next break."""
        self._since = None

    def delay(self, pushback_s: float | None) -> float | None:
        """Seconds to wait before the next attempt, a random time after ``pushback_s``; None to give up.

        Streams that were told the same time by one server would else come back all at once.
        """
        policy, now = self._policy, self._clock()
        if self._since is None:
            self._since = now
        bound = policy.initial_delay_s
        for _ in range(self.failures):
            bound *= policy.multiplier
            if bound >= policy.max_delay_s:
                bound = policy.max_delay_s
                break
        self.failures += 1
        delay = (pushback_s or 0.0) + self._draw() * bound
        return delay if now + delay - self._since <= policy.patience_s else None


def is_break(error: KnivError) -> bool:
    """Whether the connection is at fault, so that the stream may go on over another one.

    Whatever the server says of the request itself (INVALID_ARGUMENT, NOT_FOUND, ...) and a deadline that has passed
    stay as they are; RESOURCE_EXHAUSTED is a break if the server invites another try (RetryInfo).
    """
    if error.code == "RESOURCE_EXHAUSTED":
        return error.retry_after_s is not None
    return error.code == "UNAVAILABLE" or (
        error.code in _RESET_CODES and _RESET_WORDS.search(error.message) is not None
    )


def report(loss: ConnectionLost, policy: Reconnect | None) -> None:
    """Log a break and tell the listener."""
    log.log(
        logging.INFO if loss.error.reason in _BY_DESIGN else logging.WARNING,
        "a stream's connection is lost (%s: %s); attempt %d to go on in %.1f s, %d items to be sent again",
        loss.error.code,
        loss.error,
        loss.attempt,
        loss.delay_s,
        loss.unanswered,
    )
    if policy is not None and policy.listener is not None:
        policy.listener(loss)
