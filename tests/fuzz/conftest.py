"""The services' event loop is closed after the last test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fuzz.service import host


@pytest.fixture(scope="session", autouse=True)
def _closed() -> Iterator[None]:
    yield
    if host.cache_info().currsize:
        host().close()
