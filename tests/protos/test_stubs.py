"""The committed stubs are what the protos give, and the protos follow the rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = Path("kniv", "v1")


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}


def test_committed_stubs_are_those_of_the_protos(tmp_path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    subprocess.run([sys.executable, ROOT / "scripts" / "generate_stubs.py", tmp_path], check=True)
    assert files(tmp_path / STUBS) == files(ROOT / "client" / STUBS)


def test_protos_are_clean():
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    buf = shutil.which("buf", path=places)
    if buf is None:
        pytest.skip("buf is not installed")
    done = subprocess.run([buf, "lint"], cwd=ROOT / "protos", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
