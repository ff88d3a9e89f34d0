"""SIGTERM in the midst of it: the real process ends in time, and every call with a status that says so."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import grpc
import pytest
from tests.e2e.chaos.conftest import seed
from tests.e2e.chaos.faults import LASTING, REPEATED, Fault
from tests.e2e.conftest import Server, StartServer

CALLS = 30  # that have ended when the signal comes
GOOD = {
    grpc.StatusCode.OK,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # the client's own
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # refused, as its deadline could not be kept
}
_ALARM = re.compile(r"Traceback|never retrieved|was destroyed|never awaited|Segmentation|\bERROR\b", re.IGNORECASE)


def stop(server: Server) -> None:
    """Stop a server and see that it goes in peace."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    said = server.log.read_text()
    assert not _ALARM.search(said), said


@pytest.mark.parametrize("fault", [*LASTING, *REPEATED])
def test_sigterm_during(start_server: StartServer, tiny_repository: Path, fault: Fault) -> None:
    server = start_server("--model-repository", str(tiny_repository), "--drain-seconds", "0.5")
    with fault(server.target, seed()) as crowd:
        if fault in REPEATED:
            crowd.until(CALLS)
        stop(server)
        if fault in REPEATED:
            crowd.until(crowd.codes.total() + 10)
    assert set(crowd.codes) <= GOOD, crowd.codes
