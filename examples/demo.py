"""Starts a server on a free port, streams a dialogue and a document through the client, prints what comes back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent / "model_repository"


@contextmanager
def server() -> Iterator[str]:
    """A running server's target; it is stopped, and drains, at the end."""
    command = [sys.executable, "-m", "kniv.server", "serve", "--port", "0", "--model-repository", str(REPOSITORY)]
    process = subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"ready on (\S+)", process.stdout.readline())
        if match is None:
            sys.exit("the server did not start; its message stands above")
        yield match[1]
    finally:
        process.terminate()
        process.wait(timeout=60)
