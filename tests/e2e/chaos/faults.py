"""What callers do to a server, for as long as a test likes: each fault is begun by entering and ended by leaving it."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import grpc
from tests.e2e.chaos.callers import KINDS, ONE_ROW, TEXT, channel_to, stream
from tests.e2e.chaos.sockets import Proxy, silent
from tests.e2e.wire import Request, configuration, turn

from kniv.v1 import annotation_service_pb2_grpc as stubs

_PATIENCE = 120.0
_THREADS = 3
_SOON = 0.02  # seconds within which most calls are answered

Act = Callable[[grpc.Channel, random.Random], grpc.StatusCode]


class Crowd:
    """What has come of a fault so far.

    Attributes:
        codes: how often a call ended with each status.
    """

    def __init__(self) -> None:
        self.codes: Counter[grpc.StatusCode] = Counter()
        self.failures: list[BaseException] = []
        self._changed = threading.Condition()
        self._over = False

    def add(self, code: grpc.StatusCode) -> None:
        """A call has ended."""
        with self._changed:
            self.codes[code] += 1
            self._changed.notify_all()

    def until(self, calls: int) -> None:
        """Wait until so many calls have ended.

        Raises:
            AssertionError: they have not in time, or a caller broke down.
        """
        with self._changed:
            enough = self._changed.wait_for(lambda: self.failures or self.codes.total() >= calls, _PATIENCE)
        assert not self.failures, self.failures
        assert enough, f"only {self.codes.total()} of {calls} calls ended: {self.codes}"

    def last(self, seconds: float) -> None:
        """Go on for so long.

        Raises:
            AssertionError: a caller broke down.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.failures, seconds)
        assert not self.failures, self.failures

    @contextmanager
    def doing(self, target: str, act: Act, seed: int, reconnect: bool) -> Iterator[Crowd]:
        """Do something over and over in several threads."""
        threads = [
            threading.Thread(target=self._do, args=(target, act, random.Random(f"{seed}/{number}"), reconnect))
            for number in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over = True
            for thread in threads:
                thread.join(_PATIENCE)
        assert not any(thread.is_alive() for thread in threads), "a caller hangs"
        assert not self.failures, self.failures

    def _do(self, target: str, act: Act, chance: random.Random, reconnect: bool) -> None:
        try:
            while not self._over:
                with channel_to(target) as channel:
                    self.add(act(channel, chance))
                    while not (self._over or reconnect):
                        self.add(act(channel, chance))
        except BaseException as failure:
            self.failures.append(failure)
            with self._changed:
                self._changed.notify_all()


def _cancels(channel: grpc.Channel, chance: random.Random) -> grpc.StatusCode:
    """A call of some kind, given up at some point."""
    call = chance.choice(KINDS)(channel)
    threading.Event().wait(chance.choice([0.0, chance.uniform(0, _SOON)]))
    call.cancel()
    return call.code()


def _hurries(channel: grpc.Channel, chance: random.Random) -> grpc.StatusCode:
    """Some calls at once with deadlines that most will not meet."""
    waiting = [chance.choice(KINDS)(channel, timeout=chance.choice([0.001, 0.001, 0.005, _SOON])) for _ in range(5)]
    codes = [call.code() for call in waiting]
    return codes[0]


def _reconnects(channel: grpc.Channel, chance: random.Random) -> grpc.StatusCode:
    """A stream on a connection of its own, torn down after some of its answers, or all."""
    call = stream(channel)
    with suppress(StopIteration, grpc.RpcError):
        for _ in range(chance.randrange(5)):
            next(call)  # type: ignore[call-overload]
    channel.close()
    return call.code()


def cancelling(target: str, seed: int) -> AbstractContextManager[Crowd]:
    """Callers that give up their calls at any stage."""
    return Crowd().doing(target, _cancels, seed, reconnect=False)


def hurrying(target: str, seed: int) -> AbstractContextManager[Crowd]:
    """A storm of deadlines of a millisecond and a few."""
    return Crowd().doing(target, _hurries, seed, reconnect=False)


def reconnecting(target: str, seed: int) -> AbstractContextManager[Crowd]:
    """Connections that are made, used and dropped."""
    return Crowd().doing(target, _reconnects, seed, reconnect=True)


def _turns() -> Iterator[Request]:
    yield configuration(options=ONE_ROW)
    number = 0
    while True:
        number += 1
        yield turn(str(number), TEXT)


@contextmanager
def never_reading(target: str, seed: int) -> Iterator[Crowd]:
    """Streams that are written to and never read from."""
    crowd = Crowd()
    with ExitStack() as stack:
        streams = []
        for _ in range(_THREADS):
            channel = stack.enter_context(channel_to(target))
            streams.append(stubs.AnnotationServiceStub(channel).StreamAnnotations(_turns()))
            assert next(streams[-1]).HasField("configured")
        yield crowd
        for call in streams:
            call.cancel()
            crowd.add(call.code())


@contextmanager
def half_open(target: str, seed: int) -> Iterator[Crowd]:
    """Connections that fall silent at every stage of their making, and of a call."""
    with silent(target, number=3):
        yield Crowd()


@contextmanager
def cut_off(target: str, seed: int) -> Iterator[Crowd]:
    """Streams behind a proxy that stops forwarding and hangs up only in the end."""
    crowd = Crowd()
    # The proxy hangs up before the channels are closed: gRPC would wait for a write that nobody takes.
    with ExitStack() as channels, Proxy(target).running() as proxy:
        streams = []
        for _ in range(_THREADS):
            channel = channels.enter_context(channel_to(proxy.target))
            streams.append(stubs.AnnotationServiceStub(channel).StreamAnnotations(_turns()))
            assert next(streams[-1]).HasField("configured")
        proxy.stop()
        yield crowd
        for call in streams:
            call.cancel()
            crowd.add(call.code())


Fault = Callable[[str, int], AbstractContextManager[Crowd]]
REPEATED: tuple[Fault, ...] = (cancelling, hurrying, reconnecting)
LASTING: tuple[Fault, ...] = (never_reading, half_open, cut_off)
