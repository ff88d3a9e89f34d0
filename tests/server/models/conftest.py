from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.models.modes import ControlMode
from kniv.server.models.version import RunOptions
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy

MakeControl = Callable[[Path, ControlMode], ModelControl]


@pytest.fixture
def repository(tmp_path: Path, tiny: Path) -> Path:
    """A repository with the tiny model, versions 1 and 2, both served."""
    root = tmp_path / "models"
    for version in "12":
        shutil.copytree(tiny, root / "tiny" / version)
    (root / "tiny" / "config.pbtxt").write_text("version_policy { all {} }")
    return root


@pytest.fixture
def make_control() -> Iterator[MakeControl]:
    with ThreadPoolExecutor(2) as executor:

        def make(root: Path, mode: ControlMode) -> ModelControl:
            engine = Engine([], executor, Policy(), Admission())
            return ModelControl(root, Catalogue(), RunOptions(engine, 1, BatchLimits()), 1, "cpu", mode)

        yield make
