from __future__ import annotations

import subprocess
import sys

HANGING = """
import asyncio, sys, threading
from kniv.server import app, cli, errors

async def serve(settings, ready):
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    raise errors.HungError("a run and a load hang")

app.serve = serve
sys.argv = ["kniv-serve", "serve"]
cli.app()
"""

IMPORTS = """
import sys
import kniv.server.cli, kniv.server.app
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_server_that_hangs_ends_whatever_else_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (70, "kniv-serve: a run and a load hang\n")


def test_a_server_loads_no_more_than_it_serves_with() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "onnxruntime" in loaded
    assert not loaded & {"onnx", "torch", "transformers", "httpx", "huggingface_hub", "opentelemetry", "jwt"}
