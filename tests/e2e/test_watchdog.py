"""Runs that take too long in the real server: stopped if they heed it, and if not, the process goes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.starting import NOT_SERVING, SERVING, Faulty, annotate, starting, status, until

MODEL = "kniv.v1.AnnotationService/tiny"
SHORT = ("--run-seconds", "0.5", "--run-grace-seconds", "0.5", "--parallel-runs", "2")


@contextmanager
def serving(folder: Path, repository: Path, *flags: str) -> Iterator[tuple[Faulty, grpc.Channel]]:
    with starting(folder, "--model-repository", str(repository), *SHORT, *flags) as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == f"ready on {server.target}\n"
        with grpc.insecure_channel(server.target) as channel:
            annotate(channel)
            yield server, channel


def test_a_run_that_heeds_is_stopped_and_costs_its_sentence_only(tmp_path: Path, tiny_repository: Path) -> None:
    with serving(tmp_path, tiny_repository) as (server, channel):
        server.fault("stall")
        (result,) = annotate(channel).results
        assert result.error.code == grpc.StatusCode.INTERNAL.value[0]
        assert "took too long" in result.error.message
        server.mend("stall")
        assert annotate(channel).results[0].annotation.sentences
        assert status(channel, MODEL) == status(channel, "liveness") == SERVING


def test_a_run_that_hangs_ends_the_process(tmp_path: Path, tiny_repository: Path) -> None:
    with serving(tmp_path, tiny_repository, "--drain-seconds", "5") as (server, channel):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=MODEL))
        assert next(watch).status == SERVING
        server.fault("hang")
        (result,) = annotate(channel).results
        assert result.error.code == grpc.StatusCode.INTERNAL.value[0]
        assert next(watch).status == NOT_SERVING
        assert server.process.wait(60) == 70
        assert "hang" in server.log.read_text() and "Traceback" not in server.log.read_text()


def test_a_run_that_hangs_where_the_server_is_to_stay(tmp_path: Path, tiny_repository: Path) -> None:
    """Its sentence fails, those that wait for the model are handed back, and so are new ones; others go on."""
    with (
        serving(tmp_path, tiny_repository, "--exit-when-hung", "false", "--parallel-runs", "1") as (server, channel),
        ThreadPoolExecutor(3) as threads,
    ):
        server.fault("hang")
        codes = [one.result().results[0].error.code for one in [threads.submit(annotate, channel) for _ in range(3)]]
        internal, unavailable = grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.UNAVAILABLE.value[0]
        assert internal in codes and set(codes) <= {internal, unavailable}
        with pytest.raises(grpc.RpcError) as refused:
            annotate(channel)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert status(channel, "liveness") == status(channel, MODEL) == status(channel, "") == NOT_SERVING
        server.mend("hang")
        until(lambda: status(channel, MODEL) == SERVING, "the run's return")
        assert annotate(channel).results[0].annotation.sentences
        assert status(channel, "liveness") == SERVING


def test_a_server_that_is_told_to_stop_while_a_run_hangs(tmp_path: Path, tiny_repository: Path) -> None:
    flags = ("--run-seconds", "3600", "--drain-seconds", "0.2")
    with (
        serving(tmp_path, tiny_repository, *flags) as (server, channel),
        ThreadPoolExecutor(1) as threads,
    ):
        server.fault("hang")
        asked = threads.submit(annotate, channel)
        until((server.faults / "hanging").exists, "a run")
        server.process.terminate()
        (result,) = asked.result().results
        assert result.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert server.process.wait(60) == 70
