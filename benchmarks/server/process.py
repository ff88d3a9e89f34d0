"""The real server as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_GLANCE_S = 0.05
_QUIET = 0.2  # of one core
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    target: str
    process: psutil.Process

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return int(self.process.memory_info().rss)

    def anonymous(self) -> int:
        """Bytes of memory that are its own: without pages of files, which the system gives and takes as it likes."""
        held = self.process.memory_info()
        return int(held.rss - held.shared)

    def settle(self) -> None:
        """Wait until it has nothing to do any more.

        Raises:
            TimeoutError: it does not come to rest.
        """
        until = time.monotonic() + _PATIENCE_S
        before = cpu_s(self.process)
        while time.monotonic() < until:
            time.sleep(_GLANCE_S)
            now = cpu_s(self.process)
            if now - before < _QUIET * _GLANCE_S:
                return
            before = now
        raise TimeoutError(f"the server is still busy {_PATIENCE_S:.0f} s after its last client has left")


def cpu_s(process: psutil.Process) -> float:
    """Processor seconds that a process has used."""
    used = process.cpu_times()
    return float(used.user + used.system)


@contextmanager
def watched(found: dict[str, Any]) -> Iterator[None]:
    """Note how many cores others had meanwhile, programs or other guests of the host; the most of several times."""
    begun, before = time.monotonic(), _others_s()
    yield
    cores = (_others_s() - before) / (time.monotonic() - begun)
    found["others_cores"] = max(cores, found.get("others_cores", 0.0))


def _others_s() -> float:
    """Processor seconds of this machine that neither this process nor its children have used."""
    machine, me = psutil.cpu_times(), psutil.Process()
    busy = sum(getattr(machine, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    used = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    # A child that has ended, a server that was started and stopped say, stands in what its parent's children have used.
    return float(busy - sum(one.user + one.system + one.children_user + one.children_system for one in used))


@contextmanager
def running(repository: Path, model: str, *flags: str) -> Iterator[Server]:
    """A server of one model on a free port; its log is shown if it does not start."""
    given = ["--port", "0", "--model-repository", str(repository), "--default-model", model, *flags]
    command = [sys.executable, "-m", "kniv.server", "serve", *given]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KNIV_")}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        with process:
            assert process.stdout is not None
            try:
                ready = re.fullmatch(r"ready on (\S+)\n", process.stdout.readline())
                if ready is None:
                    log.seek(0)
                    raise SystemExit(f"the server did not start:\n{log.read()}")
                yield Server(ready[1], psutil.Process(process.pid))
            finally:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
