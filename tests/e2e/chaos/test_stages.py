"""Callers that go away at each stage of their call: what they held comes back although no model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from tests.e2e.chaos.callers import KINDS, ONE_ROW, TEXT, Begin, Call, Requests, channel_to, stream, unary
from tests.e2e.chaos.conftest import HELD, ROOM, SLOTS
from tests.e2e.chaos.inside import Inside
from tests.e2e.wire import Request, chunk, completions, configuration, errors, sentences_of, turn
from tests.server.services.inference.requests import row_request
from tritonclient.grpc import service_pb2_grpc

from kniv.server.services.stream import StreamLimits
from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

CANCELLED = grpc.StatusCode.CANCELLED

Leave = Callable[[grpc.Channel, Call], object]


def cancels(channel: grpc.Channel, call: Call) -> None:
    call.cancel()


def closes(channel: grpc.Channel, call: Call) -> None:
    channel.close()


def cancellation(**item: str) -> Request:
    return Request(cancellation=calls.Cancellation(item=calls.ItemReference(**item)))  # type: ignore[arg-type]


WAYS: tuple[Leave, ...] = (cancels, closes)


@contextmanager
def busy(inside: Inside) -> Iterator[list[Call]]:
    """Every slot holds a batch at the shut gate, each of one row of another caller's; their calls."""
    inside.gate.shut()
    with ExitStack() as stack:
        held = []
        for slot in range(SLOTS):
            held.append(unary(stack.enter_context(channel_to(inside.target))))
            inside.until(lambda slot=slot: inside.engine.running == slot + 1, "a batch in each slot")
        yield held
        inside.gate.open()
        for call in held:
            assert call.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("begin", KINDS)
@pytest.mark.parametrize("leave", WAYS)
def test_in_a_batch(inside: Inside, begin: Begin, leave: Leave) -> None:
    inside.gate.shut()
    with channel_to(inside.target) as channel:
        call = begin(channel)
        inside.until(lambda: inside.engine.running == 1, "a batch")
        leave(channel, call)
        assert call.code() == CANCELLED
        inside.settle()


@pytest.mark.parametrize("begin", KINDS)
@pytest.mark.parametrize("leave", WAYS)
def test_in_the_queue(inside: Inside, begin: Begin, leave: Leave) -> None:
    with busy(inside), channel_to(inside.target) as channel:
        call = begin(channel)
        inside.until(lambda: inside.engine.items == SLOTS + 1, "a row in the queue")
        leave(channel, call)
        assert call.code() == CANCELLED
        inside.until(lambda: inside.engine.items == SLOTS, "the row's leaving")


def test_in_a_batch_with_others_who_stay(inside: Inside) -> None:
    with busy(inside), channel_to(inside.target) as one, channel_to(inside.target) as other:
        leaver, stayer = stream(one), stream(other)
        inside.until(lambda: inside.engine.items == SLOTS + 2, "both rows in the queue")
        inside.gate.let(1)
        inside.until(lambda: (inside.engine.items, inside.engine.running) == (SLOTS + 1, SLOTS), "both in one batch")
        leaver.cancel()
        inside.until(lambda: inside.engine.items == SLOTS, "the row's leaving")
        inside.gate.open()
        responses = list(stayer)  # type: ignore[call-overload]
        assert not errors(responses)
        assert [sentence.text for sentence in sentences_of(responses, "1")] == [TEXT]


OPEN_STREAMS: dict[str, tuple[Request, ...]] = {
    "nothing sent": (),
    "configured": (configuration(),),
    "half a document": (configuration(), chunk("d", b"We walked along the")),
    "half a character": (configuration(), chunk("d", "café".encode()[:-1])),
}


@pytest.mark.parametrize("sent", OPEN_STREAMS.values(), ids=OPEN_STREAMS)
@pytest.mark.parametrize("leave", WAYS)
def test_before_the_queue(inside: Inside, sent: tuple[Request, ...], leave: Leave) -> None:
    requests = Requests(*sent)
    with channel_to(inside.target) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(requests))
        work = "AnnotationStream._reader" if sent else "Wire.read"
        inside.until(lambda: inside.tasks(work) == 1, "an open stream")
        leave(channel, call)
        assert call.code() == CANCELLED
        inside.settle()
    requests.end()


def test_a_raw_stream_before_the_queue(inside: Inside) -> None:
    requests = Requests()
    with channel_to(inside.target) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests))
        inside.until(lambda: inside.tasks("InferenceStream._reader") == 1, "an open stream")
        call.cancel()
        inside.settle()
    requests.end()


@pytest.mark.parametrize("ordered", [False, True])
def test_at_all_stages_at_once(inside: Inside, ordered: bool) -> None:
    """A stream has rows in batches, in the queue, and waiting outside for room; more is read and not yet begun."""
    inside.gate.shut()
    ordering = "ORDERING_IN_ORDER" if ordered else "ORDERING_AS_READY"
    sent = [configuration(options=ONE_ROW, ordering=ordering)]
    sent += [turn(str(number), " ".join([TEXT] * 3)) for number in range(500)]
    with ExitStack() as stack:
        callers = []
        for _ in range(3):
            channel = stack.enter_context(channel_to(inside.target))
            callers.append(stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent)))
        begun = "Annotator.annotate"
        inside.until(lambda: inside.tasks(begun) == 3 * HELD, "as many sentences as three streams may hold")
        room = inside.holdings().rows
        assert room < 3 * HELD
        inside.gate.let(20)
        for caller in callers[1:]:
            caller.cancel()
        inside.until(lambda: inside.tasks(begun) == HELD and inside.engine.items == min(room, HELD), "one stream alone")
        callers[0].cancel()
        inside.settle()


def test_a_whole_document_is_cancelled_by_its_name(inside: Inside) -> None:
    """All of it has come, and none of it has been answered."""
    inside.gate.shut()
    requests = Requests(configuration(options=ONE_ROW), chunk("d", f"{TEXT} ".encode() * 200, last=True))
    with channel_to(inside.target) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(requests))
        inside.until(lambda: inside.engine.items, "a row")
        requests.put(cancellation(document_id="d"))
        requests.end()
        ends = completions(call)
    assert (ends["d"].outcome, ends["d"].sentence_count) == (calls.OUTCOME_CANCELLED, 0)


def test_a_full_scheduler_refuses_unary_calls_that_leave_nothing_behind(inside: Inside) -> None:
    inside.gate.shut()
    sent = [configuration(options=ONE_ROW), turn("1", " ".join([TEXT] * 100))]
    with channel_to(inside.target) as channel:
        bulk = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent))
        inside.until(lambda: inside.tasks("Annotator.annotate") == HELD, "as many sentences as a stream may hold")
        late = [unary(channel) for _ in range(ROOM - inside.holdings().rows)]
        inside.until(lambda: inside.engine.items == ROOM, "a full scheduler")
        refused = [unary(channel) for _ in range(50)]
        assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        inside.gate.open()
        assert completions(bulk)["1"].sentence_count == 100
        assert {call.code() for call in late} <= {grpc.StatusCode.OK}


def test_a_call_that_is_refused_in_part_leaves_nothing_in_the_queue(inside: Inside) -> None:
    """Of two rows of a sentence the second finds no room; nobody wants the first any more."""
    inside.gate.shut()
    options = calls.AnnotationOptions(tasks=[wire.TASK_POS, wire.TASK_DIALOG_ACT])
    asked = calls.AnnotateTextRequest(inputs=[calls.TextInput(text=TEXT, previous_text="Hello.")], options=options)
    with channel_to(inside.target) as channel:
        held = [unary(channel) for _ in range(ROOM - 1)]
        inside.until(lambda: inside.engine.items == ROOM - 1, "room for one row")
        refused = stubs.AnnotationServiceStub(channel).AnnotateText.future(asked)
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        rows = inside.holdings().rows
        inside.gate.open()
        assert {call.code() for call in held} == {grpc.StatusCode.OK}
        assert rows == ROOM - 1


@pytest.mark.parametrize("leave", WAYS)
def test_a_sentence_that_failed_while_it_waited_for_its_turn(inside: Inside, leave: Leave) -> None:
    """In an ordered stream the second sentence fails first; nobody will ask for its error."""
    inside.gate.shut()
    inside.gate.broken_from = 64
    ordered = configuration(options=ONE_ROW, ordering="ORDERING_IN_ORDER")
    with channel_to(inside.target) as channel:
        text = f"{TEXT} It was a {'very ' * 80} long day."
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter([ordered, turn("1", text)]))
        done = "an error that waits for the first sentence"
        # Both sentences are begun in one go.
        inside.until(lambda: inside.tasks("Annotator.annotate") == 1 and inside.engine.running, done)
        leave(channel, call)
        inside.settle()


@pytest.mark.parametrize("rows", [1, 3])
def test_deadlines_that_pass_in_batches_and_in_the_queue(inside: Inside, rows: int) -> None:
    inside.gate.shut()
    with ExitStack() as stack:
        channels = [stack.enter_context(channel_to(inside.target)) for _ in KINDS]
        waiting = [
            begin(channel, timeout=1.0) for _ in range(rows) for begin, channel in zip(KINDS, channels, strict=True)
        ]
        assert {call.code() for call in waiting} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        inside.settle()


def test_while_writing(inside: Inside) -> None:
    """A client that never reads is in the end not read from, and holds up nobody else; then it goes away."""
    taken, busy = 0, ("Wire.read", "Annotator.annotate")

    def endless() -> Iterator[Request]:
        nonlocal taken
        yield configuration(options={"tasks": ["TASK_POS", "TASK_DEP"]})
        while True:
            taken += 1
            yield turn(str(taken), TEXT)

    with channel_to(inside.target) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(endless())
        stuck = "all sentences of the stream waiting to be written, and nothing being read"
        held = HELD + StreamLimits().messages
        inside.until(lambda: taken > held and not any(map(inside.tasks, busy)), stuck)
        with channel_to(inside.target) as another:
            assert unary(another).code() == grpc.StatusCode.OK
        call.cancel()
        inside.settle()


def test_while_writing_raw_tensors(inside: Inside) -> None:
    request = row_request([[1, 2, 3, 4] * 30] * 8)
    request.outputs.add(name="pos_logits")

    def endless() -> Iterator[object]:
        while True:
            yield request

    with channel_to(inside.target) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(endless())
        stuck = "all answers waiting to be written, and nothing being read"
        busy = ("Wire.read", "InferenceStream._answer")
        inside.until(lambda: inside.tasks("InferenceStream._reader") and not any(map(inside.tasks, busy)), stuck)
        call.cancel()
        inside.settle()
