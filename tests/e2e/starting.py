"""A server with faults, looked at from its first moment on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

PATIENCE = 60.0
_LOOK_SECONDS = 0.02
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True)
class Faulty:
    """A server that may not be ready yet; files in ``faults`` switch faults on, see ``faulty.py``."""

    target: str
    process: subprocess.Popen[str]
    log: Path
    faults: Path

    def fault(self, name: str) -> None:
        (self.faults / name).touch()

    def mend(self, name: str) -> None:
        (self.faults / name).unlink()

    def said(self, text: str) -> None:
        """Wait until the log has a text."""
        until(lambda: text in self.log.read_text(), f"'{text}' in the log")


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that tells nobody when it comes."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(_LOOK_SECONDS)


@contextmanager
def starting(folder: Path, *flags: str, faults: tuple[str, ...] = ()) -> Iterator[Faulty]:
    """Start a server and wait until it listens."""
    log, switches = folder / "server.log", folder / "faults"
    switches.mkdir()
    for name in faults:
        (switches / name).touch()
    program = [sys.executable, str(Path(__file__).with_name("faulty.py")), str(switches)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KNIV_")}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*program, "serve", "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    with process:
        try:
            pattern = re.compile(r"\blistening on (\S+:\d+)$", re.MULTILINE)
            until(lambda: pattern.search(log.read_text()) or process.poll() is not None, "a listener")
            found = pattern.search(log.read_text())
            assert found, log.read_text()
            yield Faulty(found[1], process, log, switches)
        finally:
            process.kill()


def status(channel: grpc.Channel, name: str) -> int:
    """What a health check says."""
    check = health_pb2_grpc.HealthStub(channel).Check
    return int(check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE).status)


def annotate(channel: grpc.Channel, model: str = "", **more: object) -> calls.AnnotateTextResponse:
    """A short call."""
    options = calls.AnnotationOptions(model=model, tasks=["TASK_POS"])  # type: ignore[list-item]
    request = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="Hello there.")], options=options)
    return stubs.AnnotationServiceStub(channel).AnnotateText(request, timeout=PATIENCE, **more)  # type: ignore[no-any-return]


def retry_after(error: grpc.RpcError) -> float:
    """Seconds of an error's RetryInfo."""
    details = rpc_status.from_call(error)
    for detail in details.details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            info = error_details_pb2.RetryInfo()
            detail.Unpack(info)
            return float(info.retry_delay.ToNanoseconds() / 1e9)
    raise AssertionError(f"no RetryInfo in {details}")
