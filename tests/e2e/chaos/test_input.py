"""Input that nobody meant to be served: through every call, and while a neighbour's stream goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from tests.e2e.chaos.callers import ONE_ROW, TEXT, Requests, channel_to
from tests.e2e.chaos.inside import Inside
from tests.e2e.wire import Request, Response, chunks, completions, configuration, errors, sentences_of, turn
from tests.server.services.inference.requests import row_request
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

INVALID = grpc.StatusCode.INVALID_ARGUMENT

# What is served, however odd.
ODD = {
    "empty": "",
    "white space": " \t\n\u2003\u00a0",
    "NUL": "\0",
    "NUL within": "One\0two.",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 👍🏽",
    "a mark without its letter": "\u0301",
    "the last code point": "\U0010ffff",
    "a token of 100,000 characters": "x" * 100_000,
    "emoji without a space": "😀" * 2000,
}
# Each is one half of a UTF-16 pair, written as if it were a character.
SURROGATES = {"high": b"\xed\xa0\x80", "low": b"\xed\xbf\xbf"}
_HOLE = "~" * 3


@pytest.fixture
def neighbour(inside: Inside) -> Iterator[None]:
    """A stream that is answered before, and after, whatever the test sends over the same connection."""
    requests = Requests(configuration(options=ONE_ROW), turn("before", TEXT))
    with channel_to(inside.target) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(requests))
        seen = [next(call) for _ in range(3)]
        yield
        requests.put(turn("after", TEXT))
        requests.end()
        responses = seen + list(call)
        assert not errors(responses)
        assert set(completions(responses)) == {"before", "after"}


def _with_hole(message: Any, content: bytes) -> bytes:
    """A message, its text of three signs replaced by three bytes that no string may hold."""
    whole: bytes = message.SerializeToString()
    assert whole.count(_HOLE.encode()) == 1 and len(content) == len(_HOLE)
    return whole.replace(_HOLE.encode(), content)


def _streamed(target: str, sent: list[Request]) -> list[Response]:
    with channel_to(target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        return list(stub.StreamAnnotations(iter([configuration(options=ONE_ROW), *sent]), timeout=120))


def _whole(found: Sequence[wire.SentenceAnnotation], text: str) -> None:
    """Sentences are slices of their text that leave out nothing but white space."""
    for one in found:
        assert text[one.span.start : one.span.end] == one.text
    assert "".join("".join(one.text for one in found).split()) == "".join(text.split())


def _one_end(responses: list[Response], name: str, text: str) -> None:
    """An item's sentences are its whole text, and one completion counts them."""
    assert not errors(responses)
    found = sentences_of(responses, name)
    ends = [response for response in responses if response.HasField("completion")]
    assert len(ends) == 1 and ends[0].completion.sentence_count == len(found)
    _whole(found, text)


@pytest.mark.usefixtures("neighbour")
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_text(inside: Inside, text: str) -> None:
    options = calls.AnnotationOptions(**ONE_ROW)
    inputs = [calls.TextInput(text=TEXT), calls.TextInput(text=text), calls.TextInput(text=TEXT)]
    with channel_to(inside.target) as channel:
        request = calls.AnnotateTextRequest(inputs=inputs, options=options)
        before, odd, after = stubs.AnnotationServiceStub(channel).AnnotateText(request, timeout=120).results
    assert before.annotation.sentences and after.annotation.sentences and not odd.HasField("error")
    _whole(odd.annotation.sentences, text)
    _one_end(_streamed(inside.target, [turn("t", text)]), "t", text)
    _one_end(_streamed(inside.target, chunks("d", text.encode(), 997)), "d", text)


@pytest.mark.usefixtures("neighbour")
@pytest.mark.parametrize("content", SURROGATES.values(), ids=SURROGATES)
def test_a_lone_surrogate(inside: Inside, content: bytes) -> None:
    def code(path: str, message: bytes) -> grpc.StatusCode:
        with channel_to(inside.target) as channel:
            return channel.unary_unary(path).future(message, timeout=60).code()

    asked = calls.AnnotateTextRequest(inputs=[calls.TextInput(text=_HOLE)])
    assert code("/kniv.v1.AnnotationService/AnnotateText", _with_hole(asked, content)) == INVALID
    raw = service_pb2.ModelInferRequest(model_name=_HOLE)
    assert code("/inference.GRPCInferenceService/ModelInfer", _with_hole(raw, content)) == INVALID
    with channel_to(inside.target) as channel:
        sent = [configuration(options=ONE_ROW), turn("whole", TEXT), *chunks("d", b"Oh. " + content, 5)]
        messages = [one.SerializeToString() for one in sent]
        messages.insert(1, _with_hole(turn("t", _HOLE), content))
        stream = channel.stream_stream("/kniv.v1.AnnotationService/StreamAnnotations")
        responses = [Response.FromString(one) for one in stream(iter(messages), timeout=60)]
    failed = [(one.item.document_id, one.error.code, one.item_ended) for one in errors(responses)]
    assert sorted(failed) == [("", code_pb2.INVALID_ARGUMENT, False), ("d", code_pb2.INVALID_ARGUMENT, True)]
    assert completions(responses)["whole"].sentence_count == 1


def _oversize_unary(channel: grpc.Channel) -> Any:
    inputs = [calls.TextInput(text="x" * (9 << 20))]
    return stubs.AnnotationServiceStub(channel).AnnotateText.future(calls.AnnotateTextRequest(inputs=inputs))


def _oversize_stream(channel: grpc.Channel) -> Any:
    sent = [configuration(options=ONE_ROW), turn("1", "x" * (9 << 20))]
    call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent))
    with suppress(grpc.RpcError):
        list(call)  # a status comes after what was answered before it, and only to those who read that
    return call


def _oversize_raw(channel: grpc.Channel) -> Any:
    request = service_pb2.ModelInferRequest(model_name="tiny", raw_input_contents=[b"\0" * (9 << 20)])
    return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request)


@pytest.mark.usefixtures("neighbour")
@pytest.mark.parametrize("begin", [_oversize_unary, _oversize_stream, _oversize_raw])
def test_a_message_over_the_limit(inside: Inside, begin: Callable[[grpc.Channel], Any]) -> None:
    with channel_to(inside.target) as channel:
        assert begin(channel).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert _oversize_text(channel).code() == INVALID


def _oversize_text(channel: grpc.Channel) -> Any:
    """A message that fits, with more text than a call may have."""
    inputs = [calls.TextInput(text="word " * (1 << 16))]
    return stubs.AnnotationServiceStub(channel).AnnotateText.future(calls.AnnotateTextRequest(inputs=inputs))


RAW = {
    "nothing": service_pb2.ModelInferRequest(),
    "no tensors": service_pb2.ModelInferRequest(model_name="tiny"),
    "NUL in the model's name": service_pb2.ModelInferRequest(model_name="\0"),
    "an id that is none": row_request([[1, -5, 3]]),
    "a row of 100,000 subwords": row_request([[1] * 100_000]),
}


@pytest.mark.usefixtures("neighbour")
@pytest.mark.parametrize("request_", RAW.values(), ids=RAW)
def test_raw_tensors_at_fault(inside: Inside, request_: service_pb2.ModelInferRequest) -> None:
    with channel_to(inside.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer.future(request_).code() in (INVALID, grpc.StatusCode.NOT_FOUND)
        good = row_request([[1, 2, 3]])
        bad, answered = stub.ModelStreamInfer(iter([request_, good]), timeout=60)
        assert bad.error_message and not answered.error_message
