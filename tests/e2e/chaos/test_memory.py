"""Memory of the real process over rounds of chaos: flat once the first rounds have been."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.chaos.callers import fresh
from tests.e2e.chaos.conftest import LASTS, long, seed
from tests.e2e.chaos.faults import LASTING, REPEATED
from tests.e2e.conftest import Server, StartServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SPARE_FILES = 8  # connections whose end the server may not have noticed yet
_MB = 1 << 20


def resident(server: Server) -> int:
    """Bytes of memory that a server's process has in use."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def descriptors(server: Server) -> int:
    """Files and connections that it has open."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def chaos(server: Server, calls: int) -> None:
    """Each fault in turn; so many calls of each repeated one."""
    with ExitStack() as stack:
        for lasting in LASTING:
            stack.enter_context(lasting(server.target, seed()))
    for repeated in REPEATED:
        with repeated(server.target, seed()) as crowd:
            crowd.until(calls)


def growth(server: Server, rounds: int, calls: int, seconds: float = 0.0) -> int:
    """Bytes that a server has grown by after rounds of chaos, since the first third of them.

    Args:
        server: which.
        rounds: how many at least.
        calls: of each repeated fault in a round.
        seconds: how long at least.
    """
    until = time.monotonic() + seconds
    before, measured = fresh(server.target), list[int]()
    open_at_rest = descriptors(server)
    while len(measured) < rounds or time.monotonic() < until:
        chaos(server, calls)
        assert fresh(server.target) == before
        assert descriptors(server) <= open_at_rest + SPARE_FILES
        measured.append(resident(server))
    print("MB:", *(round(size / _MB) for size in measured))
    return max(measured) - measured[len(measured) // 3]


def test_memory_is_flat(start_server: StartServer, tiny_repository: Path) -> None:
    server = start_server("--model-repository", str(tiny_repository))
    assert growth(server, rounds=4, calls=50) < 16 * _MB


@long
def test_memory_is_flat_for_minutes(start_server: StartServer, tiny_repository: Path) -> None:
    server = start_server("--model-repository", str(tiny_repository))
    assert growth(server, rounds=6, calls=300, seconds=4 * LASTS) < 32 * _MB
