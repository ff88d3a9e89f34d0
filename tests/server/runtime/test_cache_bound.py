"""The user's cache of rewritten graphs keeps those that were used last."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.runtime import cache

MOST = 100


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user whose versions cannot be written to, and who may keep little."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(cache, "_MOST_BYTES", MOST)
    return tmp_path / "user" / "kniv-serve" / "graphs"


def writes(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"x" * size)


def source(folder: Path, name: str) -> Path:
    """A graph that no folder can be made beside of."""
    path = folder / name / "graph.onnx"
    path.parent.mkdir(exist_ok=True)
    cache.beside(path).write_bytes(b"")
    return path


def aged(entry: Path, now: int) -> None:
    os.utime(entry.parent, (now, now))


def test_what_is_used_stays_and_what_is_not_goes(user: Path, tmp_path: Path) -> None:
    paths = [source(tmp_path, name) for name in "abc"]
    entries = []
    for number, path in enumerate(paths[:2]):
        entry = cache.store(path, f"key{number}", writes(40))  # type: ignore[arg-type]
        assert entry is not None
        aged(entry, number)
        entries.append(entry)
    assert cache.find(paths[0], "key0") == entries[0]  # and so it is the one used last
    third = cache.store(paths[2], "key2", writes(41))  # type: ignore[arg-type]
    assert third is not None and third.is_file()
    assert entries[0].is_file() and not entries[1].exists()
    assert cache.find(paths[1], "key1") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.integers(0, 2 * MOST), min_size=1, max_size=12))
def test_no_more_is_kept_than_may_be(user: Path, tmp_path: Path, sizes: list[int]) -> None:
    path = source(tmp_path, "graph")
    for number, size in enumerate(sizes):
        kept = cache.store(path, f"key{number}", writes(size))  # type: ignore[arg-type]
        assert kept is not None and kept.stat().st_size == size
        aged(kept, number)
        total = sum(entry.stat().st_size for entry in user.glob("*/*"))
        assert total <= max(MOST, size)
