"""Any sequence of any messages of a stream, against the real service and a model of what docs/protocol.md promises.

``KNIV_FUZZ_EXAMPLES`` makes the run as long as one likes; `make fuzz` does so.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import grpc
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.fuzz.oracle import INVALID, Oracle, Request, Response, key_of
from tests.fuzz.service import LIMITS, Context, EndedError, host

from kniv.server.services.offsets import Unit
from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls

EXAMPLES = int(os.environ.get("KNIV_FUZZ_EXAMPLES", "40"))

NAMES = st.sampled_from(["a", "b", "c", "d", "é", "", "n" * 257])
PIECES = [
    "Hello there. ",
    "How are you?",
    "\n\n",
    "Hé 😀! ",
    "\0",
    " ",
    "Mr. X said “no”. ",
    "e\u0301",
    "x" * 200,
    "…",
    "\u2028",
]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text(max_size=30))
UNITS = {
    wire.OFFSET_UNIT_CODE_POINT: Unit.CODE_POINT,
    wire.OFFSET_UNIT_UTF8_BYTE: Unit.UTF8_BYTE,
    wire.OFFSET_UNIT_UTF16_CODE_UNIT: Unit.UTF16_CODE_UNIT,
}
TASKS = st.lists(st.sampled_from(wire.Task.values()[1:]), unique=True, max_size=2)
# Another kind of message, a string that is no UTF-8, half a message.
HALF = Request(turn=calls.Turn(text="x" * 50)).SerializeToString()[:-9]
GARBAGE = st.sampled_from([b"\xff\xff", b"\x12\x03\x0a\x01\xff", HALF])


class Streams(RuleBasedStateMachine):
    """One stream, from its first message to its end."""

    def __init__(self) -> None:
        super().__init__()
        self._host = host()
        self._left = False
        self._host.run(self._open())

    async def _open(self) -> None:
        self._context = Context()
        method = self._host.methods["StreamAnnotations"].stream_stream
        self._call = asyncio.ensure_future(method(None, self._context))

    @initialize(unit=st.sampled_from(list(UNITS)), ordered=st.booleans(), turns=st.integers(0, 1), tasks=TASKS)
    def configure(self, unit: Any, ordered: bool, turns: int, tasks: list[Any]) -> None:
        ordering = calls.ORDERING_IN_ORDER if ordered else calls.ORDERING_AS_READY
        options = calls.AnnotationOptions(offset_unit=unit, tasks=tasks)
        configuration = calls.StreamConfiguration(options=options, ordering=ordering, context_turns=turns)
        self._oracle = Oracle(ordered, UNITS[unit], LIMITS.open_documents)
        self._context.send(Request(configuration=configuration).SerializeToString())

    def _send(self, message: Request) -> None:
        if self._oracle.ordered and not self._left:
            self._until_known()
        self._oracle.sent(message)
        self._context.send(message.SerializeToString())

    def _until_known(self) -> None:
        """Wait for the ends of documents that cannot end well: whether the next item may begin depends on them."""
        failing = {one.key for one in self._oracle.failing()}
        if failing:
            self._host.hands.release()
            self._context.reading.set()

            async def known() -> None:
                while not failing <= {key_of(one.error.item) for one in self._responses() if one.error.item_ended}:
                    await _turns(1)

            self._host.run(known())

    def _responses(self) -> list[Response]:
        return [Response.FromString(content) for content in self._context.written]

    @rule(
        name=NAMES,
        text=TEXTS,
        revision=st.integers(-1, 3),
        partial=st.booleans(),
        speaker=st.sampled_from(["", "x", "s" * 257]),
        context_only=st.sampled_from([False, False, True]),
    )
    def turn(self, name: str, text: str, revision: int, partial: bool, speaker: str, context_only: bool) -> None:
        message = calls.Turn(
            turn_id=name, text=text, revision=revision, is_partial=partial, speaker=speaker, context_only=context_only
        )
        self._send(Request(turn=message))

    @rule(name=NAMES, text=TEXTS, cut=st.integers(0, 8), last=st.booleans())
    def chunk(self, name: str, text: str, cut: int, last: bool) -> None:
        """A chunk that may end inside a character."""
        content = text.encode()
        self._send(_chunk(name, content[: len(content) - cut], last))

    @rule(name=NAMES, text=TEXTS, size=st.integers(1, 7))
    def document(self, name: str, text: str, size: int) -> None:
        """A whole one, cut anywhere."""
        content = text.encode()
        pieces = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
        for place, piece in enumerate(pieces):
            self._send(_chunk(name, piece, place == len(pieces) - 1))

    @rule(name=NAMES, content=st.binary(max_size=6), last=st.booleans())
    def odd_chunk(self, name: str, content: bytes, last: bool) -> None:
        self._send(_chunk(name, content, last))

    @rule(name=NAMES, kind=st.sampled_from(["turn_id", "document_id", ""]), revision=st.none() | st.integers(0, 2))
    def cancel(self, name: str, kind: str, revision: int | None) -> None:
        item = calls.ItemReference(revision=revision, **({kind: name} if kind else {}))
        self._send(Request(cancellation=calls.Cancellation(item=item)))

    @rule(second=st.booleans())
    def out_of_place(self, second: bool) -> None:
        """A message without content, or a second configuration."""
        self._send(Request(configuration=calls.StreamConfiguration()) if second else Request())

    @rule(content=GARBAGE)
    def garbage(self, content: bytes) -> None:
        self._oracle.refused(INVALID)
        self._context.send(content)

    @rule()
    def hold_runs(self) -> None:
        self._host.hands.holding = True

    @rule()
    def release_runs(self) -> None:
        self._host.hands.release()

    @rule(reads=st.booleans())
    def reader(self, reads: bool) -> None:
        """The client reads no more, or again."""
        (self._context.reading.set if reads else self._context.reading.clear)()

    @rule(turns=st.integers(1, 60))
    def let_time_pass(self, turns: int) -> None:
        self._host.run(_turns(turns))

    @precondition(lambda self: not self._left)
    @rule()
    def leave(self) -> None:
        """The client goes away; all that is sent from then on reaches nobody."""
        self._left = True
        self._host.run(self._give_up())

    async def _give_up(self) -> None:
        self._call.cancel()
        with suppress(asyncio.CancelledError):
            await self._call

    def teardown(self) -> None:
        self._host.hands.release()
        self._context.reading.set()
        if not self._left:
            self._context.half_close()
            self._host.run(_end(self._call))
            self._oracle.check(self._responses())
        self._host.run(self._host.settled())


def _chunk(name: str, content: bytes, last: bool) -> Request:
    return Request(document_chunk=calls.DocumentChunk(document_id=name, content=content, last=last))


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def _end(call: asyncio.Future[None]) -> None:
    await call


class TestStreams(Streams.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


CONFIGURATIONS = [
    {"options": calls.AnnotationOptions(model="none")},
    {"options": calls.AnnotationOptions(version=9)},
    {"options": calls.AnnotationOptions(variant="none")},
    {"options": calls.AnnotationOptions(tasks=[99])},
    {"options": calls.AnnotationOptions(offset_unit=99)},
    {"options": calls.AnnotationOptions(priority=-1)},
    {"ordering": 99},
    {"context_turns": -1},
    {"context_turns": 1 << 30},
]
FIRSTS: list[bytes] = [
    b"\xff",
    b"",
    Request(turn=calls.Turn(turn_id="1", text="Hello.")).SerializeToString(),
    Request(cancellation=calls.Cancellation()).SerializeToString(),
    *(Request(configuration=calls.StreamConfiguration(**one)).SerializeToString() for one in CONFIGURATIONS),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("first", FIRSTS)
def test_a_first_message_at_fault_ends_the_call(first: bytes) -> None:
    async def main() -> EndedError:
        context = Context()
        context.send(first)
        with pytest.raises(EndedError) as ended:
            await host().methods["StreamAnnotations"].stream_stream(None, context)
        assert not context.written
        await host().settled()
        return ended.value

    ended = host().run(main())
    assert ended.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND) and ended.message
