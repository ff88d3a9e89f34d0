"""Calls that come whether or not earlier ones have been answered, and the capacity to measure them by."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.server import wire
from kniv.v1 import annotation_service_pb2


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Calls of one turn each, spread over several connections.

    Attributes:
        rate: calls a second, a Poisson process; 0 for a closed loop: ``callers`` who call again when answered.
        deadline_s: of each call.
        clients: connections.
    """

    target: str
    turns: tuple[str, ...]
    seconds: float
    deadline_s: float
    rate: float = 0.0
    callers: int = 64
    clients: int = 8
    tasks: tuple[str, ...] = wire.ALL
    priority: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the time at which it was due, how late it was sent, how long it took from when it was due, its code."""

    due: float
    late_s: float
    took_s: float
    code: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """What became of the calls; when the first was due; the load generator's processor seconds."""

    begun: float
    calls: list[Call]
    cpu_s: float


def arrive(arrivals: Arrivals) -> Arrived:
    """Make the calls and wait for the last; meant for a process of its own."""
    return wire.run(_Generator(arrivals).run())


class _Generator:
    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._random = random.Random(arrivals.seed)
        self._calls: list[Call] = []

    async def run(self) -> Arrived:
        channels = [wire.connect(self._arrivals.target) for _ in range(self._arrivals.clients)]
        stubs = itertools.cycle([wire.stub(channel) for channel in channels])
        # A connection is made at its first call, which should not be one that counts.
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        begun, cpu = time.monotonic(), time.process_time()
        if self._arrivals.rate:
            await self._open_loop(stubs, begun)
        else:
            await asyncio.gather(*(self._closed_loop(next(stubs)) for _ in range(self._arrivals.callers)))
        used = time.process_time() - cpu
        await asyncio.gather(*(channel.close() for channel in channels))
        return Arrived(begun, self._calls, used)

    async def _open_loop(self, stubs: itertools.cycle[Any], begun: float) -> None:
        due = begun
        async with asyncio.TaskGroup() as calls:
            while (due := due + self._random.expovariate(self._arrivals.rate)) < begun + self._arrivals.seconds:
                await asyncio.sleep(due - time.monotonic())
                calls.create_task(self._call(next(stubs), due))

    async def _closed_loop(self, stub: Any) -> None:
        until = time.monotonic() + self._arrivals.seconds
        while (now := time.monotonic()) < until:
            await self._call(stub, now)

    async def _call(self, stub: Any, due: float) -> None:
        given = wire.options(self._arrivals.tasks, self._arrivals.priority)
        texts = [annotation_service_pb2.TextInput(text=self._random.choice(self._arrivals.turns))]
        request = annotation_service_pb2.AnnotateTextRequest(inputs=texts, options=given)
        late = time.monotonic() - due
        try:
            response = await stub.AnnotateText(request, timeout=self._arrivals.deadline_s)
            # A text's own error does not fail the call.
            number = response.results[0].error.code
            code = next(code.name for code in grpc.StatusCode if code.value[0] == number)
        except grpc.RpcError as error:
            code = error.code().name
        self._calls.append(Call(due, late, time.monotonic() - due, code))
