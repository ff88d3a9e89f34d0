"""The command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository."""
    root = tmp_path / "repository"
    root.mkdir()
    return root


@pytest.fixture
def kniv_serve(tmp_path: Path, repository: Path) -> Run:
    """Runs ``kniv-serve`` on the repository, with nothing of this machine's hub settings."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "KNIV_")) and not name.lower().endswith("_proxy")
        }
        own = {"HF_HOME": str(tmp_path / "hub"), "KNIV_MODEL_REPOSITORY": str(repository), "COLUMNS": "200"}
        command = [sys.executable, "-m", "kniv.server", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=kept | own | environment, check=False
        )

    return run
