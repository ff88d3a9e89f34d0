"""A server with room for one row: calls that need more are refused at once, streams get there in time."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.e2e.conftest import StartServer
from tests.e2e.wire import chunk, completions, configuration, sentences_of, turn

from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs


def test_a_call_is_refused_and_told_when_to_come_back_while_a_stream_is_slowed(
    tiny_repository: Path, start_server: StartServer
) -> None:
    server = start_server("--model-repository", str(tiny_repository), "--queue-rows", "1")
    with grpc.insecure_channel(server.target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        inputs = [calls.TextInput(text="One came. Two left. Three stayed.")]
        with pytest.raises(grpc.RpcError) as refused:
            stub.AnnotateText(calls.AnnotateTextRequest(inputs=inputs))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
        retry, info = error_details_pb2.RetryInfo(), error_details_pb2.ErrorInfo()
        first, second = status_pb2.Status.FromString(details).details
        assert first.Unpack(retry) and second.Unpack(info)
        assert retry.retry_delay.ToNanoseconds() > 0
        assert (info.reason, info.domain) == ("QUEUE_FULL", "kniv.v1")

        text = b"One came. Two left. Three stayed. Four sang."
        requests = [configuration(), *(turn(str(n), "Who? Me!") for n in range(20)), chunk("d", text, last=True)]
        responses = list(stub.StreamAnnotations(iter(requests)))
        assert len(completions(responses)) == 21
        assert [one.text for one in sentences_of(responses, "d")] == [
            "One came.",
            "Two left.",
            "Three stayed.",
            "Four sang.",
        ]


def test_a_call_that_cannot_be_answered_in_time_ends_with_its_deadline(
    tiny_repository: Path, start_server: StartServer
) -> None:
    server = start_server("--model-repository", str(tiny_repository))
    with grpc.insecure_channel(server.target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        request = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="One came. " * 500)])
        stub.AnnotateText(request, timeout=60)
        with pytest.raises(grpc.RpcError) as late:
            stub.AnnotateText(request, timeout=0.02)
        assert late.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert stub.AnnotateText(request, timeout=60).results[0].annotation.sentences
