"""One caller who sends a turn, waits for its answer, and thinks before the next."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

import grpc.aio

from benchmarks.server import wire


@dataclass(frozen=True, slots=True)
class Chat:
    """A dialogue without end, a turn at a time.

    Attributes:
        think_s: mean time from an answer to the next turn; it is drawn from an exponential distribution.
        seconds: how long to go on.
    """

    target: str
    turns: tuple[str, ...]
    seconds: float
    think_s: float
    tasks: tuple[str, ...] = wire.ALL
    priority: int = 1
    seed: int = 0


def talk(chat: Chat) -> list[float]:
    """Seconds from each turn to the end of its answer; meant for a process of its own.

    Raises:
        RuntimeError: a turn failed.
    """
    return wire.run(_talk(chat))


async def _talk(chat: Chat) -> list[float]:
    draw, latencies = random.Random(chat.seed), []
    until = time.monotonic() + chat.seconds
    async with wire.connect(chat.target) as channel:
        call = wire.stub(channel).StreamAnnotations()
        await call.write(wire.configuration(chat.tasks, chat.priority))
        await call.read()
        number = draw.randrange(len(chat.turns))
        while time.monotonic() < until:
            await asyncio.sleep(draw.expovariate(1 / chat.think_s))
            sent = time.monotonic()
            await call.write(wire.turn(str(number), chat.turns[number % len(chat.turns)]))
            while (response := await call.read()) is not grpc.aio.EOF and response.HasField("sentence"):
                pass
            if response is grpc.aio.EOF or not response.HasField("completion"):
                raise RuntimeError(f"a turn was not answered: {response}")
            latencies.append(time.monotonic() - sent)
            number += 1
        call.cancel()
    return latencies
