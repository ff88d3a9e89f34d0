"""The server as a process: health, reflection, broken repositories, settings, signals."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from tests.e2e.conftest import Server, StartServer
from tests.e2e.wire import Request, completions, configuration, turn
from tests.server.telemetry.collector import collecting

from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs


def refused(*flags: str) -> str:
    """What a server that does not start says."""
    command = [sys.executable, "-m", "kniv.server", "serve", "--port", "0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (1, 2), done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_health_and_reflection(server: Server) -> None:
    with grpc.insecure_channel(server.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "kniv.v1.AnnotationService"):
            status = health.Check(health_pb2.HealthCheckRequest(service=name)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        for version in ("v1", "v1alpha"):
            ask = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            (listed,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            names = {service.name for service in listed.list_services_response.service}
            assert {"kniv.v1.AnnotationService", "grpc.health.v1.Health"} <= names


def test_a_missing_repository(tmp_path: Path) -> None:
    assert "nowhere: no such model repository" in refused("--model-repository", str(tmp_path / "nowhere"))


def test_an_empty_repository(tmp_path: Path) -> None:
    assert "holds no model" in refused("--model-repository", str(tmp_path))


@pytest.mark.parametrize("name", ["cascade-int8.onnx", "labels.json", "metadata.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_broken_model_alone_is_refused_by_its_file(copied_repository: Path, name: str, damage: str) -> None:
    path = copied_repository / "kniv-mini" / "1" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    said = refused("--model-repository", str(copied_repository))
    assert (name if damage == "truncated" or name != "cascade-int8.onnx" else "holds no graph") in said


def test_a_broken_version_beside_a_good_one_is_listed_with_its_reason(
    start_server: StartServer, copied_repository: Path
) -> None:
    broken = copied_repository / "kniv-mini" / "2"
    broken.mkdir()
    (broken / "cascade-int8.onnx").write_bytes(b"not a graph")
    for name in ("labels.json", "metadata.json", "tokenizer.json"):
        (broken / name).write_bytes((copied_repository / "kniv-mini" / "1" / name).read_bytes())
    server = start_server("--model-repository", str(copied_repository))
    with grpc.insecure_channel(server.target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        newest, good = stub.GetModel(calls.GetModelRequest()).model.versions
        assert not newest.ready and "cascade-int8.onnx" in newest.reason
        assert good.ready
        response = stub.AnnotateText(calls.AnnotateTextRequest(inputs=[calls.TextInput(text="Hello.")]))
        assert response.model.version == 1
        with pytest.raises(grpc.RpcError) as failure:
            stub.AnnotateText(calls.AnnotateTextRequest(options=calls.AnnotationOptions(version=2)))
        assert failure.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_a_port_in_use(server: Server) -> None:
    flags = ["--model-repository", str(Path(__file__).resolve().parents[2] / "model_repository")]
    port = server.target.rpartition(":")[2]
    said = refused(*flags, "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said and "--port" in said
    assert "--admin-port" in refused(*flags, "--admin-port", port)


def test_a_server_that_cannot_listen_closes_its_telemetry_and_ends(server: Server) -> None:
    root = Path(__file__).resolve().parents[2]
    flags = ["--model-repository", str(root / "model_repository"), "--metrics-port", "0", "--log-format", "json"]
    with collecting() as collector:
        said = refused(*flags, "--port", server.target.rpartition(":")[2], "--otlp-endpoint", collector.endpoint)
        assert collector.metrics, "what there was to tell was not sent"
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines[-1]["level"] == "CRITICAL" and "cannot listen" in lines[-1]["message"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model-repository", "nowhere"], "no such model repository"),
        (["--run-threads", "0"], "--run-threads"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--metrics-port", "0", "--jwt-issuer", "me"], "--jwt-keys-file"),
    ],
)
def test_why_a_server_does_not_start_is_json_as_the_rest_of_its_log(flags: list[str], said: str) -> None:
    lines = [json.loads(line) for line in refused("--log-format", "json", *flags).splitlines()]
    assert [line["level"] for line in lines].count("CRITICAL") == 1
    assert lines[-1]["level"] == "CRITICAL" and said in lines[-1]["message"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "70000"], "--port"),
        (["--parallel-runs", "-1"], "--parallel-runs"),
        (["--log-level", "chatty"], "--log-level"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--default-model", "kniv-huge"], "kniv-huge"),
    ],
)
def test_settings_at_fault_are_refused_by_name(flags: list[str], said: str) -> None:
    root = Path(__file__).resolve().parents[2]
    assert said in refused("--model-repository", str(root / "model_repository"), *flags)


def test_sigterm_drains_what_was_sent_and_hands_the_rest_back(start_server: StartServer, tiny_repository: Path) -> None:
    server = start_server("--model-repository", str(tiny_repository))
    sent: queue.Queue[Request | None] = queue.Queue()

    def requests() -> Iterator[Request]:
        while (request := sent.get()) is not None:
            yield request

    with grpc.insecure_channel(server.target) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(requests(), timeout=60)
        sent.put(configuration())
        assert next(call).HasField("configured")
        sent.put(turn("1", "Hello there. How are you?"))
        responses = [next(call)]
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as end:
            responses.extend(call)
        sent.put(None)
    assert end.value.code() == grpc.StatusCode.UNAVAILABLE
    assert set(completions(responses)) == {"1"}
    assert server.process.wait(60) == 0


def test_a_watched_health_check_and_an_idle_stream_do_not_hold_up_the_end(
    start_server: StartServer, tiny_repository: Path
) -> None:
    server = start_server("--model-repository", str(tiny_repository), "--drain-seconds", "3600")
    with grpc.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stop: queue.Queue[Request | None] = queue.Queue()
        stub = stubs.AnnotationServiceStub(channel)
        call = stub.StreamAnnotations(iter(stop.get, None))
        stub.ListModels(calls.ListModelsRequest())  # calls begin in order: the stream has its handler
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as end:
            next(call)
        stop.put(None)
    assert end.value.code() == grpc.StatusCode.UNAVAILABLE
    assert server.process.wait(60) == 0


def test_a_second_signal_stops_at_once(start_server: StartServer, tiny_repository: Path) -> None:
    server = start_server("--model-repository", str(tiny_repository), "--drain-seconds", "3600")
    text = " ".join(["We walked on and on along the river until the rain came."] * 3000)
    with grpc.insecure_channel(server.target) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter([configuration(), turn("1", text)]))
        assert next(call).HasField("configured")
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
