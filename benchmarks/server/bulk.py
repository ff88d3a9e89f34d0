"""Streams that are kept full: as soon as one item has ended, the next is sent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import psutil

from benchmarks.server import wire
from benchmarks.server.process import cpu_s


@dataclass(frozen=True, slots=True)
class Bulk:
    """What to load a server with, round and round, until the first of two bounds.

    Attributes:
        dialogues: texts; each dialogue goes over a stream of its own, a turn a text. A stream of documents lasts,
            and takes the next document of whatever dialogue there is.
        as_turns: whether they are dialogues of turns, not of documents.
        streams: at a time.
        outstanding: items of a stream that have not ended.
        seconds: how long at most.
        marks: numbers of sentences at which processor times are noted; the last of them ends it.
        watched: process of the server, if its processor time is to be noted too.
        keep: give the answers back.
    """

    target: str
    dialogues: tuple[tuple[str, ...], ...]
    as_turns: bool = False
    streams: int = 4
    outstanding: int = 2
    tasks: tuple[str, ...] = wire.ALL
    priority: int = 0
    seconds: float | None = None
    marks: tuple[int, ...] = ()
    watched: int | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, and the processor seconds that the load generator and the server had used by then."""

    moment: float
    client_cpu_s: float
    server_cpu_s: float


@dataclass(slots=True)
class Trace:
    """What came back.

    Attributes:
        done: when each sentence did, on the machine's monotonic clock.
        marks: at the numbers of sentences asked for.
        answers: if kept: for each sentence the place of its text among all, and its annotation on the wire.
    """

    done: list[float] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> int:
        """Sentences that came back in that time."""
        return sum(begin <= moment < end for moment in self.done)


def load(bulk: Bulk) -> Trace:
    """Load a server; meant for a process of its own.

    Raises:
        RuntimeError: an item failed.
    """

    async def run() -> Trace:
        return await _Loader(bulk).run()

    return wire.run(run())


@dataclass(frozen=True, slots=True)
class _Item:
    place: int
    name: str
    text: str


class _Loader:
    def __init__(self, bulk: Bulk) -> None:
        self._bulk, self._trace = bulk, Trace()
        self._dialogues = self._laps()
        self._documents = itertools.chain.from_iterable(self._dialogues)
        self._bound = asyncio.timeout(bulk.seconds)

    async def run(self) -> Trace:
        async with wire.connect(self._bulk.target) as channel:
            stub = wire.stub(channel)
            with contextlib.suppress(TimeoutError):
                async with self._bound, asyncio.TaskGroup() as streams:
                    for _ in range(self._bulk.streams):
                        streams.create_task(self._stream(stub))
        return self._trace

    def _laps(self) -> Iterator[Iterator[_Item]]:
        for lap in itertools.count():
            places = itertools.count()
            for dialogue in self._bulk.dialogues:
                yield iter([_Item(place := next(places), f"{lap}.{place}", text) for text in dialogue])

    async def _stream(self, stub: Any) -> None:
        if not self._bulk.as_turns:
            await self._serve(stub, self._documents)
            return
        for dialogue in self._dialogues:
            await self._serve(stub, dialogue)

    async def _serve(self, stub: Any, items: Iterator[_Item]) -> None:
        """One stream, from its configuration to its end."""
        call = stub.StreamAnnotations()
        under_way: dict[str, _Item] = {}
        try:
            await call.write(wire.configuration(self._bulk.tasks, self._bulk.priority))
            for item in itertools.islice(items, self._bulk.outstanding):
                await self._send(call, item, under_way)
            while under_way and (response := await call.read()) is not grpc.aio.EOF:
                match response.WhichOneof("message"):
                    case "sentence":
                        self._note(response.sentence, under_way)
                    case "completion":
                        del under_way[_name(response.completion.item)]
                        for item in itertools.islice(items, 1):
                            await self._send(call, item, under_way)
                    case "error":
                        raise RuntimeError(f"an item failed: {response.error.error.message}")
            if under_way:
                raise RuntimeError(f"the server ended a stream early: {await call.details()}")
            await call.done_writing()
            await call.read()
        finally:
            call.cancel()

    async def _send(self, call: Any, item: _Item, under_way: dict[str, _Item]) -> None:
        under_way[item.name] = item
        make = wire.turn if self._bulk.as_turns else wire.document
        await call.write(make(item.name, item.text))

    def _note(self, sentence: Any, under_way: dict[str, _Item]) -> None:
        self._trace.done.append(time.monotonic())
        if self._bulk.keep:
            place = under_way[_name(sentence.item)].place
            self._trace.answers.append((place, sentence.annotation.SerializeToString()))
        if len(self._trace.done) in self._bulk.marks:
            self._trace.marks.append(Mark(time.monotonic(), time.process_time(), self._server_cpu_s()))
            if len(self._trace.marks) == len(self._bulk.marks):
                self._bound.reschedule(asyncio.get_running_loop().time())

    def _server_cpu_s(self) -> float:
        return cpu_s(psutil.Process(self._bulk.watched)) if self._bulk.watched else 0.0


def _name(reference: Any) -> str:
    name: str = reference.turn_id or reference.document_id
    return name
