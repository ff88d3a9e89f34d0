from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.models.modes import ControlMode
from kniv.server.models.version import RunOptions
from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.policy import Admission, BatchLimits, Policy

T = TypeVar("T")
Serving = Callable[[Callable[[ModelControl], Awaitable[T]]], T]


@pytest.fixture(scope="session")
def tiny_models(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 3 of the model ``tiny``, of which a request has at most 4 rows."""
    root = tmp_path_factory.mktemp("raw")
    shutil.copytree(tiny, root / "tiny" / "3")
    (root / "tiny" / "config.pbtxt").write_text("max_batch_size: 4")
    return root


@pytest.fixture
def serving(tiny_models: Path) -> Iterator[Serving[T]]:
    """Runs something on a loop with the repository's control in explicit mode, nothing loaded."""
    with ThreadPoolExecutor(2) as executor:

        def run(work: Callable[[ModelControl], Awaitable[T]]) -> T:
            async def main() -> T:
                options = RunOptions(Engine([], executor, Policy(), Admission()), 1, BatchLimits())
                return await work(ModelControl(tiny_models, Catalogue(), options, mode=ControlMode.EXPLICIT))

            return asyncio.run(main())

        yield run
