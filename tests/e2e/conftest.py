"""The real server, started on a free loopback port."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from kniv.v1 import annotation_service_pb2_grpc as stubs

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ROOT / "model_repository"


@dataclass(frozen=True)
class Server:
    """A running server."""

    target: str
    process: subprocess.Popen[str]
    log: Path


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[Server]:
    """Start ``kniv-serve serve`` with the flags; stop it at the end, by force if it does not heed."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "kniv.server", "serve", "--port", "0", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KNIV_")}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout is not None
    with process, process.stdout:
        try:
            line = process.stdout.readline()
            match = re.fullmatch(r"ready on (\S+)\n", line)
            assert match, f"the server did not start: {line}{log.read_text()}"
            yield Server(match[1], process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of a test's own, with any flags."""
    with ExitStack() as stack:

        def start(*flags: str) -> Server:
            return stack.enter_context(running(tmp_path, *flags))

        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the embedded model for the whole session."""
    with running(tmp_path_factory.mktemp("server"), "--model-repository", str(REPOSITORY)) as started:
        yield started


@pytest.fixture
def stub(server: Server) -> Iterator[stubs.AnnotationServiceStub]:
    """The generated stub, on a channel of its own."""
    with grpc.insecure_channel(server.target) as channel:
        yield stubs.AnnotationServiceStub(channel)


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one small cascade of random weights, FP32 and INT8: quick, where answers do not matter."""
    pytest.importorskip("torch", reason="the tiny cascade is made with PyTorch")
    from tests.training.tiny import write_tiny_model

    root = tmp_path_factory.mktemp("tiny_repository")
    write_tiny_model(root / "tiny" / "1", REPOSITORY / "kniv-mini" / "1")
    return root


@pytest.fixture(scope="session")
def tiny_server(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the tiny cascade for the whole session."""
    with running(tmp_path_factory.mktemp("tiny_server"), "--model-repository", str(tiny_repository)) as started:
        yield started


@pytest.fixture
def copied_repository(tmp_path: Path) -> Path:
    """A copy of the embedded repository that a test may damage."""
    target = tmp_path / "repository"
    shutil.copytree(REPOSITORY, target, ignore=shutil.ignore_patterns("cascade.onnx"))
    return target
