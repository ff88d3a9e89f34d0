"""The stream protocol without a wire: any sequence of messages, any pace of reader, writer and model."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kniv.server.errors import InferenceError, InvalidRequestError
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.segment import Sentence
from kniv.server.pipeline.types import SentenceAnnotation, Timings
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services import convert
from kniv.server.services.items import Items
from kniv.server.services.offsets import Unit
from kniv.server.services.stream import AnnotationStream, Request, Response, StreamLimits
from kniv.v1 import annotation_service_pb2 as calls


class Model:
    """Answers after a random number of turns of the loop; fails on sentences that say so."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.busy = self.most_busy = self.begun = 0

    async def annotate(self, sentence: Sentence, index: int, ask: Ask) -> SentenceAnnotation:
        self.begun += 1
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            for _ in range(self.random.randrange(6)):
                await asyncio.sleep(0)
            if "fails" in sentence.text:
                raise InferenceError("as it was told to")
            if "crashes" in sentence.text:
                raise ZeroDivisionError
            return SentenceAnnotation(index, sentence.start, sentence.text, (), (), (), None, False, Timings(0, 0, 0))
        finally:
            self.busy -= 1


def served(
    messages: Iterable[Request | Exception], *, ordered: bool, seed: int = 0, limits: StreamLimits | None = None
) -> tuple[list[Response], Model]:
    """Everything that a stream answers, and what its model saw."""
    pace, model, out = random.Random(seed), Model(seed), list[Response]()
    limits = limits or StreamLimits(sentences=3, messages=4, bytes=100, open_documents=2)

    async def main() -> bool:
        coming = iter(messages)

        async def read() -> Request | None:
            for _ in range(pace.randrange(3)):
                await asyncio.sleep(0)
            message = next(coming, None)
            if isinstance(message, Exception):
                raise message
            return message

        async def write(response: Response) -> None:
            for _ in range(pace.randrange(4)):
                await asyncio.sleep(0)
            out.append(response)

        options, leases = convert.Options("", 0, "", frozenset(), Unit.UTF16_CODE_UNIT, 1), Leases(model)
        items = Items(options.unit, 1, limits.open_documents, ordered, leases.lease)
        stream = AnnotationStream(options, Urgency(), items, ordered, limits, read, write, asyncio.Event())
        served_all = await asyncio.wait_for(stream.run(calls.StreamConfigured()), 60)
        assert leases.held == 0, "an item kept its model"
        assert len(asyncio.all_tasks()) == 1, "tasks outlive the stream"
        return served_all

    assert asyncio.run(main())
    return out, model


class Leases:
    """Gives out leases of one model and counts those that are held."""

    def __init__(self, model: Model) -> None:
        self.model, self.held = model, 0

    def lease(self) -> Any:
        self.held += 1
        return Lease(self)


class Lease:
    def __init__(self, leases: Leases) -> None:
        self._leases, self.annotator, self.variant = leases, leases.model, "v"
        self.version = SimpleNamespace(model="m", number=1)

    def release(self) -> None:
        self._leases.held -= 1


def turn(name: str, text: str, revision: int = 0, partial: bool = False) -> Request:
    return Request(turn=calls.Turn(turn_id=name, text=text, revision=revision, is_partial=partial))


def chunk(name: str, content: bytes, last: bool = False) -> Request:
    return Request(document_chunk=calls.DocumentChunk(document_id=name, content=content, last=last))


def cancel(**item: Any) -> Request:
    return Request(cancellation=calls.Cancellation(item=calls.ItemReference(**item)))


names = st.sampled_from(["a", "b", "c", "d", ""])
texts = st.sampled_from(["", " ", "One.", "One. Two. Three.", "It fails. It works.", "It crashes.", "Hé 😀! Oui. " * 4])
bodies = st.sampled_from([b"", b"One. Tw", b"o.\n\nThree. ", "é😀".encode()[:3], b"\xff", b"\n\n"])
messages = st.one_of(
    st.builds(turn, names, texts, st.integers(-1, 3), st.booleans()),
    st.builds(chunk, names, bodies, st.booleans()),
    st.builds(lambda name: cancel(turn_id=name), names),
    st.builds(lambda name: cancel(document_id=name), names),
    st.builds(lambda name: cancel(turn_id=name, revision=1), names),
    st.sampled_from([Request(), Request(configuration=calls.StreamConfiguration()), InvalidRequestError("m", "bad")]),
)


def key(reference: calls.ItemReference) -> tuple[str, str, int]:
    return reference.turn_id, reference.document_id, reference.revision


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=30), st.booleans(), st.integers(0, 99))
def test_every_item_ends_once_and_last(sent: list[Request | Exception], ordered: bool, seed: int) -> None:
    out, model = served(sent, ordered=ordered, seed=seed)
    assert out[0].HasField("configured")
    sentences, ends, refusals = Counter[Any](), Counter[Any](), 0
    indices: dict[Any, list[int]] = {}
    for response in out[1:]:
        if response.HasField("sentence"):
            name = key(response.sentence.item)
            assert not ends[name], "a sentence after its item's end"
            sentences[name] += 1
            indices.setdefault(name, []).append(response.sentence.annotation.index)
        elif response.HasField("completion"):
            ends[key(response.completion.item)] += 1
            assert response.completion.sentence_count == sentences[key(response.completion.item)]
        elif response.error.item_ended:
            ends[key(response.error.item)] += 1
        else:
            refusals += 1
            assert response.error.error.code and response.error.error.message
    assert set(ends.values()) <= {1}
    assert set(sentences) <= set(ends)
    begun = sum(isinstance(one, Request) and one.HasField("turn") for one in sent)
    assert sum(bool(name[0]) for name in ends) <= begun
    assert refusals <= len(sent)
    assert model.most_busy <= 3
    if ordered:
        assert all(order == sorted(order) for order in indices.values())


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_slow_writer_never_sees_an_end_before_its_sentences(ordered: bool, seed: int) -> None:
    sent = [turn(str(number), "Hello there. " * 5) for number in range(40)]
    out, _ = served(sent, ordered=ordered, seed=seed, limits=StreamLimits(sentences=4))
    seen = Counter[str]()
    for response in out[1:]:
        if response.HasField("completion"):
            assert seen[response.completion.item.turn_id] == response.completion.sentence_count == 5
        else:
            seen[response.sentence.item.turn_id] += 1


def test_a_refused_document_stays_refused() -> None:
    sent = [chunk("d", b"One. "), chunk("e", b"first half, "), chunk("d", b"Two.", True), chunk("e", b"second.", True)]
    out, _ = served(sent, ordered=True)
    about_e = [response for response in out if key(response.error.item)[1] == "e"]
    assert len(about_e) == 1 and not about_e[0].error.item_ended
    assert {response.completion.item.document_id for response in out if response.HasField("completion")} == {"d"}


def test_a_refused_document_may_come_again_once_all_of_it_was_ignored() -> None:
    again = [chunk("e", b"Once more.", True)]
    first = [chunk("e", b"first half, ")]
    for refused in ([*first, chunk("d", b"Two.", True), chunk("e", b"second.", True)], [*again, chunk("d", b"", True)]):
        out, _ = served([chunk("d", b"One. "), *refused, *again, *again], ordered=True)
        about_e = [response for response in out if response.HasField("error") and key(response.error.item)[1] == "e"]
        codes = [response.error.error.code for response in about_e]
        assert codes == [grpc.StatusCode.INVALID_ARGUMENT.value[0], grpc.StatusCode.ALREADY_EXISTS.value[0]]
        ended = {response.completion.item.document_id for response in out if response.HasField("completion")}
        assert ended == {"d", "e"}


def test_a_cancelled_document_s_name_is_taken_once_all_of_it_was_ignored() -> None:
    sent = [chunk("d", b"One. "), cancel(document_id="d"), chunk("d", b"Two."), chunk("d", b"", True), chunk("d", b"")]
    out, _ = served(sent, ordered=False)
    (error,) = [response.error for response in out if response.HasField("error")]
    assert error.error.code == grpc.StatusCode.ALREADY_EXISTS.value[0]


def test_a_failed_document_does_not_hold_up_an_ordered_stream() -> None:
    sent = [chunk("d", b"bad \xff bytes"), turn("1", "Hello."), chunk("d", b"more"), turn("2", "Bye.")]
    # The worker must have met the bad bytes before the turn comes, so the document alone goes first.
    out, _ = served([sent[0], *[cancel(turn_id="nobody")] * 30, *sent[1:]], ordered=True)
    failed = [response.error for response in out if response.error.item_ended]
    assert [error.item.document_id for error in failed] == ["d"]
    assert {response.completion.item.turn_id for response in out if response.HasField("completion")} == {"1", "2"}


@pytest.mark.parametrize("text", [" ", "One. Two.", "It fails."])
def test_turns_are_bounded_by_a_writer_that_does_not_write(text: str) -> None:
    read = 0

    async def main() -> None:
        async def next_turn() -> Request:
            nonlocal read
            read += 1
            await asyncio.sleep(0)
            return turn(str(read), text)

        async def never(response: Response) -> None:
            await asyncio.Event().wait()

        options = convert.Options("", 0, "", frozenset(), Unit.CODE_POINT, 1)
        model = Model(0)
        leases = Leases(model)
        items = Items(options.unit, 1, 2, False, leases.lease)
        limits = StreamLimits(sentences=4, messages=8)
        stream = AnnotationStream(options, Urgency(), items, False, limits, next_turn, never, asyncio.Event())
        running = asyncio.create_task(stream.run(calls.StreamConfigured()))
        for _ in range(5000):
            await asyncio.sleep(0)
        assert read < 40
        assert model.begun <= limits.sentences
        running.cancel()
        await asyncio.wait({running})
        assert leases.held == 0

    asyncio.run(main())


def test_what_is_refused_waits_for_no_sentence() -> None:
    """Neither does what comes after it: here the cancellation of the turn that takes all the stream may hold."""

    async def main() -> None:
        class Stuck(Model):
            async def annotate(self, sentence: Sentence, index: int, ask: Ask) -> SentenceAnnotation:
                await asyncio.Event().wait()
                raise AssertionError

        out, coming = list[Response](), iter([turn("1", "One. Two."), Request(), cancel(turn_id="1")])

        async def read() -> Request | None:
            return next(coming, None)

        async def write(response: Response) -> None:
            out.append(response)

        options = convert.Options("", 0, "", frozenset(), Unit.CODE_POINT, 1)
        items = Items(options.unit, 1, 2, False, Leases(Stuck(0)).lease)
        limits = StreamLimits(sentences=1)
        stream = AnnotationStream(options, Urgency(), items, False, limits, read, write, asyncio.Event())
        assert await asyncio.wait_for(stream.run(calls.StreamConfigured()), 60)
        assert sorted(one.WhichOneof("message") or "" for one in out) == ["completion", "configured", "error"]

    asyncio.run(main())


@pytest.mark.parametrize("between", range(12))
def test_a_stream_that_is_cancelled_twice_holds_no_model(between: int) -> None:
    class Stuck(Model):
        async def annotate(self, sentence: Sentence, index: int, ask: Ask) -> SentenceAnnotation:
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)
            raise AssertionError

    async def main() -> None:
        coming = iter([turn("1", "One. Two.")])

        async def read() -> Request | None:
            if (message := next(coming, None)) is None:
                await asyncio.Event().wait()
            return message

        async def write(response: Response) -> None:
            pass

        options, leases = convert.Options("", 0, "", frozenset(), Unit.CODE_POINT, 1), Leases(Stuck(0))
        items = Items(options.unit, 1, 2, False, leases.lease)
        stream = AnnotationStream(options, Urgency(), items, False, StreamLimits(), read, write, asyncio.Event())
        serving = asyncio.create_task(stream.run(calls.StreamConfigured()))
        for turns in (40, between):
            for _ in range(turns):
                await asyncio.sleep(0)
            serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert leases.held == 0

    asyncio.run(main())


def test_draining_finishes_what_was_read_and_says_that_more_may_have_come() -> None:
    async def main() -> None:
        draining, out, coming = asyncio.Event(), list[Response](), iter([turn("1", "One. Two.")])

        async def read() -> Request | None:
            message = next(coming, None)
            if message is None:
                draining.set()
                await asyncio.Event().wait()
            return message

        async def write(response: Response) -> None:
            out.append(response)

        options = convert.Options("", 0, "", frozenset(), Unit.CODE_POINT, 1)
        items = Items(options.unit, 1, 2, False, Leases(Model(0)).lease)
        stream = AnnotationStream(options, Urgency(), items, False, StreamLimits(), read, write, draining)
        assert not await asyncio.wait_for(stream.run(calls.StreamConfigured()), 60)
        assert out[-1].completion.sentence_count == 2

    asyncio.run(main())
