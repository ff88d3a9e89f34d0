"""Traces and logs of the real server, sent to a collector in this process."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from tests.e2e.conftest import REPOSITORY, Server, StartServer
from tests.e2e.starting import until
from tests.e2e.test_process import refused
from tests.e2e.wire import Request, chunk, configuration, turn
from tests.server.telemetry.collector import Collector, attributes, collecting
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = [("traceparent", f"00-{TRACE}-{CALLER}-01")]
CANARY = "Zyxwvutopia"
TEXT = f"The people of {CANARY} sang all night. Then they slept."
STAGES = {"segment", "encode", "queue", "infer", "decode"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


def begun(start: StartServer, collector: Collector, *flags: str) -> Server:
    return start("--model-repository", str(REPOSITORY), "--otlp-endpoint", collector.endpoint, *flags)


def ended(server: Server) -> str:
    """What the server has logged by its end, at which it has sent all that was to be sent."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    return server.log.read_text()


def annotate(server: Server, *texts: str, metadata: Sequence[tuple[str, str]] = ()) -> calls.AnnotateTextResponse:
    with grpc.insecure_channel(server.target) as channel:
        inputs = [calls.TextInput(text=text) for text in texts]
        stub = stubs.AnnotationServiceStub(channel)
        answer: calls.AnnotateTextResponse = stub.AnnotateText(
            calls.AnnotateTextRequest(inputs=inputs), metadata=metadata, timeout=60
        )
        return answer


def stream(server: Server, *requests: Request, metadata: Sequence[tuple[str, str]] = ()) -> list[Any]:
    with grpc.insecure_channel(server.target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        return list(stub.StreamAnnotations(iter(requests), metadata=metadata, timeout=60))


def stages(collector: Collector, item: Any) -> set[str]:
    return {span.name for span in collector.spans() if span.parent_span_id == item.span_id}


def linked(spans: Sequence[Any]) -> set[bytes]:
    return {link.span_id for span in spans for link in span.links}


def test_a_stream_s_spans_form_a_tree_and_batches_are_linked_both_ways(
    start_server: StartServer, collector: Collector
) -> None:
    server = begun(start_server, collector)
    document = [chunk("d", b"One more line. And "), chunk("d", b"another one.", last=True)]
    stream(server, configuration(), turn("a", "Hello there."), turn("b", TEXT), *document, metadata=SAMPLED)
    ended(server)
    (call,) = collector.named("kniv.v1.AnnotationService/StreamAnnotations")
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, CALLER)
    assert call.kind == call.SPAN_KIND_SERVER
    assert attributes(call) == {
        "rpc.system.name": "grpc",
        "rpc.method": "kniv.v1.AnnotationService/StreamAnnotations",
        "rpc.response.status_code": "OK",
    }
    items = [*collector.named("turn"), *collector.named("document")]
    assert sorted(item.name for item in items) == ["document", "turn", "turn"]
    batches = collector.named("batch")
    for item in items:
        assert (item.trace_id, item.parent_span_id) == (call.trace_id, call.span_id)
        assert stages(collector, item) == STAGES
        assert attributes(item)["kniv.outcome"] == "complete"
        assert call.start_time_unix_nano <= item.start_time_unix_nano <= item.end_time_unix_nano
        assert item.end_time_unix_nano <= call.end_time_unix_nano
        assert item.span_id in linked(batches)
    assert all(not batch.parent_span_id and batch.trace_id != call.trace_id for batch in batches)
    assert linked(batches) == {item.span_id for item in items}
    assert linked(collector.named("infer")) == {batch.span_id for batch in batches}
    assert len(collector.spans()) == 1 + len(items) * (1 + len(STAGES)) + len(batches)


def test_a_batch_is_linked_to_the_items_of_all_its_calls(start_server: StartServer, collector: Collector) -> None:
    server = begun(start_server, collector, "--parallel-runs", "1")
    with grpc.insecure_channel(server.target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        request = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="She saw him leave.")])
        for future in [stub.AnnotateText.future(request, timeout=60) for _ in range(12)]:
            assert future.result().results[0].HasField("annotation")
    ended(server)
    items, batches = collector.named("text"), collector.named("batch")
    assert len(items) == 12
    assert linked(batches) == {item.span_id for item in items}
    shared = max(batches, key=lambda batch: len(batch.links))
    assert len({link.trace_id for link in shared.links}) == len(shared.links)
    assert all(len(batch.links) <= attributes(batch)["kniv.batch.rows"] for batch in batches)


def test_what_the_caller_has_decided_holds(start_server: StartServer, collector: Collector) -> None:
    server = begun(start_server, collector, "--trace-ratio", "0")
    annotate(server, "Not traced.")
    annotate(server, "Nor this.", metadata=[("traceparent", f"00-{TRACE}-{CALLER}-00")])
    annotate(server, "Nor this one.", metadata=[("traceparent", "no trace at all")])
    annotate(server, "This is.", metadata=SAMPLED)
    ended(server)
    (call,) = collector.named("kniv.v1.AnnotationService/AnnotateText")
    assert call.trace_id.hex() == TRACE
    assert len(collector.named("text")) == 1


def test_errors_are_told_by_their_type(start_server: StartServer, collector: Collector) -> None:
    server = begun(start_server, collector)
    with grpc.insecure_channel(server.target) as channel:
        for method in ("/no.such.Service/Method", "/kniv.v1.AnnotationService/Nothing"):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(method)(b"", timeout=60)
        stub = stubs.AnnotationServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.GetModel(calls.GetModelRequest(name=CANARY), timeout=60)
        open_stream = stub.StreamAnnotations(iter([configuration()]), timeout=60)
        assert next(open_stream).HasField("configured")
    ended(server)
    for call in collector.named("_OTHER"):
        assert attributes(call)["error.type"] == "UNIMPLEMENTED"
        assert call.status.code == call.status.STATUS_CODE_ERROR
    assert len(collector.named("_OTHER")) == 2
    (unknown,) = collector.named("kniv.v1.AnnotationService/GetModel")
    assert attributes(unknown)["rpc.response.status_code"] == "NOT_FOUND"
    assert "error.type" not in attributes(unknown)
    assert CANARY.encode() not in collector.content()


@pytest.mark.parametrize("shown", [False, True])
def test_texts_are_told_only_if_that_is_asked_for(start_server: StartServer, collector: Collector, shown: bool) -> None:
    flags = ["--trace-texts", "true"] if shown else []
    server = begun(start_server, collector, "--log-format", "json", "--log-level", "debug", *flags)
    annotate(server, TEXT)
    stream(server, configuration(), turn(f"turn-{CANARY}", TEXT), chunk("d", TEXT.encode(), last=True))
    log = ended(server)
    assert collector.named("turn")
    assert collector.metrics
    assert (CANARY.encode() in collector.content()) == shown
    assert CANARY not in log


def test_log_lines_are_json_with_the_call_s_trace(start_server: StartServer, collector: Collector) -> None:
    server = begun(start_server, collector, "--log-format", "json")
    with grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.RepositoryModelLoad(
                service_pb2.RepositoryModelLoadRequest(model_name="kniv-mini"), metadata=SAMPLED, timeout=60
            )
    lines = [json.loads(line) for line in ended(server).splitlines()]
    assert all({"timestamp", "level", "logger", "message"} <= line.keys() for line in lines)
    (told,) = [line for line in lines if "trace_id" in line]
    (call,) = collector.named("inference.GRPCInferenceService/RepositoryModelLoad")
    assert (told["trace_id"], told["span_id"]) == (TRACE, call.span_id.hex())
    assert "RepositoryModelLoad" in told["message"]


def test_log_lines_have_the_call_s_trace_where_nothing_is_sent(start_server: StartServer) -> None:
    server = start_server("--model-repository", str(REPOSITORY), "--log-format", "json", "--log-level", "info")
    with grpc.insecure_channel(server.target) as channel:
        request = service_pb2.RepositoryModelLoadRequest(model_name="kniv-mini")
        with pytest.raises(grpc.RpcError):
            service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad(
                request, metadata=SAMPLED, timeout=60
            )
    told = [line for line in map(json.loads, ended(server).splitlines()) if "trace_id" in line]
    assert told and {line["trace_id"] for line in told} == {TRACE}


def test_durations_have_exemplars_where_a_call_is_traced(start_server: StartServer, collector: Collector) -> None:
    server = begun(start_server, collector)
    annotate(server, "Hello.", metadata=SAMPLED)
    ended(server)
    for name in ("grpc.server.call.duration", "kniv.item.duration"):
        told = [exemplar for point in collector.points(name) for exemplar in point.exemplars]
        assert {exemplar.trace_id.hex() for exemplar in told} == {TRACE}


def test_a_collector_that_does_not_answer_costs_nobody_anything(start_server: StartServer) -> None:
    with collecting(answering=False) as collector:
        server = begun(start_server, collector, "--otlp-interval-seconds", "0.1")
        for _ in range(5):
            assert annotate(server, TEXT).results[0].HasField("annotation")
        assert collector.asked.wait(60)
        assert annotate(server, TEXT).results[0].HasField("annotation")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert not collector.traces


def test_a_collector_that_answers_slowly_gets_everything(start_server: StartServer) -> None:
    with collecting(answering=False, patience=0.5) as slow:
        server = begun(start_server, slow, "--otlp-interval-seconds", "0.1")
        for _ in range(5):
            assert annotate(server, TEXT).results[0].HasField("annotation")
        until(lambda: len(slow.named("kniv.v1.AnnotationService/AnnotateText")) == 5, "the spans of all calls")
        assert len(slow.named("text")) == 5
        until(lambda: slow.points("grpc.server.call.duration"), "the calls' durations")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_collector_that_is_not_there_costs_nobody_anything(start_server: StartServer) -> None:
    with collecting() as gone:
        pass
    server = begun(start_server, gone, "--otlp-interval-seconds", "0.1")
    for _ in range(5):
        assert annotate(server, TEXT).results[0].HasField("annotation")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0


def test_the_sampling_can_be_changed_while_the_server_runs(start_server: StartServer, collector: Collector) -> None:
    server = begun(start_server, collector, "--trace-ratio", "0")
    with grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        annotate(server, "Not traced.")
        for level, texts in (("TIMESTAMPS", 2), ("OFF", 3)):
            request = service_pb2.TraceSettingRequest()
            request.settings["trace_level"].value.append(level)
            assert stub.TraceSetting(request, timeout=60).settings["trace_level"].value == [level]
            annotate(server, *["Traced or not."] * texts)
    ended(server)
    assert len(collector.named("text")) == 2


def test_the_trace_setting_says_off_where_nothing_is_traced(start_server: StartServer) -> None:
    server = start_server("--model-repository", str(REPOSITORY))
    with grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        told = stub.TraceSetting(service_pb2.TraceSettingRequest(), timeout=60).settings
        assert {name: list(value.value) for name, value in told.items()} == {"trace_level": ["OFF"]}


def test_a_metrics_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused("--model-repository", str(REPOSITORY), "--metrics-port", str(taken.getsockname()[1]))
    assert "--metrics-port: cannot listen on 127.0.0.1" in said
