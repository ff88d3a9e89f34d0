"""Start-up, health by name and drain of the real server."""

from __future__ import annotations

import queue
import shutil
import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.frames import connected
from tests.e2e.starting import NOT_SERVING, PATIENCE, SERVING, annotate, retry_after, starting, status, until
from tests.e2e.wire import Request, Response, completions, configuration, errors, name_of, turn
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.v1 import annotation_service_pb2_grpc as stubs

OURS, TRITONS = "kniv.v1.AnnotationService", "inference.GRPCInferenceService"


@pytest.fixture
def two_models(tmp_path: Path, tiny_repository: Path) -> Path:
    """A repository with models a and b."""
    root = tmp_path / "models"
    for name in "ab":
        shutil.copytree(tiny_repository / "tiny", root / name)
    return root


def test_the_default_model_serves_while_another_is_being_loaded(tmp_path: Path, two_models: Path) -> None:
    flags = ("--model-repository", str(two_models), "--default-model", "b")
    with (
        starting(tmp_path, *flags, faults=("hold-a", "hold-b")) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        until(lambda: status(channel, f"{OURS}/b") is not None, "an answer")
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == NOT_SERVING
        assert status(channel, "liveness") == SERVING
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert not triton.ServerReady(service_pb2.ServerReadyRequest()).ready
        assert triton.ServerLive(service_pb2.ServerLiveRequest()).live
        for model in ("", "a", "b"):
            with pytest.raises(grpc.RpcError) as early:
                annotate(channel, model)
            assert early.value.code() == grpc.StatusCode.UNAVAILABLE
            assert retry_after(early.value) > 0
        server.mend("hold-b")
        assert next(watch).status == SERVING
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == f"ready on {server.target}\n"
        assert [status(channel, f"{service}/{model}") for service in (OURS, TRITONS) for model in "ab"] == [
            NOT_SERVING,
            SERVING,
        ] * 2
        assert triton.ServerReady(service_pb2.ServerReadyRequest()).ready
        assert annotate(channel).model.name == "b"
        with pytest.raises(grpc.RpcError) as early:
            annotate(channel, "a")
        assert early.value.code() == grpc.StatusCode.UNAVAILABLE
        later = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=f"{OURS}/a"))
        assert next(later).status == NOT_SERVING
        server.mend("hold-a")
        assert next(later).status == SERVING
        assert annotate(channel, "a").model.name == "a"
        with pytest.raises(grpc.RpcError) as unknown:
            status(channel, f"{OURS}/c")
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("signals", [1, 2])
def test_a_server_that_is_told_to_stop_does_not_wait_for_a_load(
    tmp_path: Path, tiny_repository: Path, signals: int
) -> None:
    flags = ("--model-repository", str(tiny_repository), "--lame-duck-seconds", "3600" if signals > 1 else "0")
    with starting(tmp_path, *flags, faults=("hold-tiny",)) as server:
        server.said("model tiny version 1: loading")
        for _ in range(signals):
            server.process.terminate()
            server.said("draining")
        # The load has not ended, and never would.
        assert server.process.wait(PATIENCE) == 0
        assert server.log.read_text().rstrip().endswith("stopped")


def test_nor_for_a_load_that_a_caller_asked_for(tmp_path: Path, tiny_repository: Path) -> None:
    flags = ("--model-repository", str(tiny_repository), "--model-control-mode", "explicit", "--drain-seconds", "0.5")
    with starting(tmp_path, *flags, faults=("hold-tiny",)) as server, grpc.insecure_channel(server.target) as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        load = triton.RepositoryModelLoad.future(service_pb2.RepositoryModelLoadRequest(model_name="tiny"))
        server.said("model tiny version 1: loading")
        server.process.terminate()
        assert load.exception() is not None
        assert server.process.wait(PATIENCE) == 0


def test_health_follows_load_reload_and_unload(tmp_path: Path, two_models: Path) -> None:
    flags = ("--model-repository", str(two_models), "--model-control-mode", "explicit")
    with starting(tmp_path, *flags) as server, grpc.insecure_channel(server.target) as channel:
        assert server.process.stdout is not None
        assert server.process.stdout.readline().startswith("ready on")
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=f"{OURS}/a"))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert status(channel, "") == SERVING  # it waits for calls that load models
        load, unload = service_pb2.RepositoryModelLoadRequest, service_pb2.RepositoryModelUnloadRequest
        triton.RepositoryModelLoad(load(model_name="a"))
        seen = [next(watch).status]
        while seen[-1] != SERVING:  # it may have been seen while it was being loaded
            seen.append(next(watch).status)
        assert set(seen) <= {NOT_SERVING, SERVING}
        # A reload that fails leaves it as it is, and so does one that succeeds.
        (two_models / "a" / "config.pbtxt").write_text("nonsense")
        with pytest.raises(grpc.RpcError):
            triton.RepositoryModelLoad(load(model_name="a"))
        (two_models / "a" / "config.pbtxt").unlink()
        (two_models / "a" / "1" / "metadata.json").touch()
        triton.RepositoryModelLoad(load(model_name="a"))
        assert status(channel, f"{OURS}/a") == SERVING
        triton.RepositoryModelUnload(unload(model_name="a"))
        assert next(watch).status == NOT_SERVING


def test_a_lame_duck_still_answers_while_it_says_that_it_leaves(tmp_path: Path, tiny_repository: Path) -> None:
    flags = ("--model-repository", str(tiny_repository), "--lame-duck-seconds", "3600")
    with starting(tmp_path, *flags) as server, grpc.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=f"{OURS}/tiny"))
        while next(watch).status != SERVING:
            pass
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        assert status(channel, "") == NOT_SERVING and status(channel, "liveness") == SERVING
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert not triton.ServerReady(service_pb2.ServerReadyRequest()).ready
        assert annotate(channel).results[0].annotation.sentences
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0


def test_connections_are_told_to_go_away_while_streams_are_finished(tmp_path: Path, tiny_repository: Path) -> None:
    with (
        starting(tmp_path, "--model-repository", str(tiny_repository)) as server,
        grpc.insecure_channel(server.target) as channel,
        connected(server.target) as connection,
    ):
        until(lambda: status(channel, "") == SERVING, "the model")
        sent: queue.Queue[Request | None] = queue.Queue()
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent.get, None), timeout=PATIENCE)
        sent.put(configuration(options={"tasks": ["TASK_POS"]}))
        assert next(call).HasField("configured")
        server.fault("stall")
        sent.put(turn("read", "Hello there."))
        sent.put(turn("", "no name"))
        while not next(call).HasField("error"):  # the stream's own order tells that the turn has been read
            pass
        server.process.send_signal(signal.SIGTERM)
        assert connection.goaway().code == 0
        with grpc.insecure_channel(server.target) as late, pytest.raises(grpc.RpcError) as refused:
            status(late, "liveness")
        # Whoever has connected just before the listener closed is given up by gRPC itself, with CANCELLED.
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        server.mend("stall")
        responses: list[Response] = []
        with pytest.raises(grpc.RpcError) as end:
            responses.extend(call)
        sent.put(None)
        assert set(completions(responses)) == {"read"}
        assert end.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.process.wait(PATIENCE) == 0


def test_what_is_not_finished_in_time_is_handed_back_item_by_item(tmp_path: Path, tiny_repository: Path) -> None:
    flags = ("--model-repository", str(tiny_repository), "--drain-seconds", "0.5")
    with starting(tmp_path, *flags) as server, grpc.insecure_channel(server.target) as channel:
        assert server.process.stdout is not None
        assert server.process.stdout.readline().startswith("ready on")
        annotate(channel)
        sent: queue.Queue[Request | None] = queue.Queue()
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent.get, None), timeout=PATIENCE)
        sent.put(configuration(options={"tasks": ["TASK_POS"]}))
        assert next(call).HasField("configured")
        sent.put(turn("done", "Hello there."))
        responses = [next(call)]
        while "done" not in completions(responses):
            responses.append(next(call))
        server.fault("stall")
        for number in range(20):
            sent.put(turn(str(number), "Hello there. How are you?"))
        # The stream's own order tells that all turns have been read.
        sent.put(turn("", "no name"))
        while not errors(responses):
            responses.append(next(call))
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as end:
            responses.extend(call)
        sent.put(None)
        assert end.value.code() == grpc.StatusCode.UNAVAILABLE
        handed_back = {name_of(error.item): error for error in errors(responses) if name_of(error.item)}
        assert handed_back.keys() == {str(number) for number in range(20)}
        assert all(error.item_ended for error in handed_back.values())
        assert {error.error.code for error in handed_back.values()} == {grpc.StatusCode.UNAVAILABLE.value[0]}
        assert server.process.wait(PATIENCE) == 0
