"""Models for tests below the wire: the embedded one, and a tiny one of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def mini() -> Path:
    """Version folder of the embedded model."""
    return ROOT / "model_repository" / "kniv-mini" / "1"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, mini: Path) -> Path:
    """Version folder of a small cascade of random weights, FP32 and INT8."""
    pytest.importorskip("torch", reason="the tiny cascade is made with PyTorch")
    from tests.training.tiny import write_tiny_model

    folder = tmp_path_factory.mktemp("repository") / "tiny" / "1"
    write_tiny_model(folder, mini)
    return folder
