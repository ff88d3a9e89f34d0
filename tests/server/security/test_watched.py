from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kniv.server.errors import ServeError
from kniv.server.security.watched import Watched


def number(content: bytes) -> int:
    try:
        return int(content)
    except ValueError:
        raise ValueError("it holds no number") from None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def test_a_change_is_seen_at_once(file: Path) -> None:
    watched = Watched("--number", [file], number)
    assert watched.current() == 1
    file.write_text("22")
    assert watched.current() == 22


def test_a_file_put_in_its_place_is_seen_though_size_and_time_agree(file: Path, tmp_path: Path) -> None:
    watched = Watched("--number", [file], number)
    other = tmp_path / "other"
    other.write_text("2")
    other.replace(file)
    assert watched.current() == 2


def test_what_cannot_be_followed_changes_nothing_and_is_said_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched("--number", [file], number)
    with caplog.at_level(logging.WARNING):
        file.write_text("half of")
        assert [watched.current() for _ in range(3)] == [1, 1, 1]
        (said,) = caplog.messages
        assert "--number" in said and "no number" in said and "half of" not in said
        caplog.clear()
        file.unlink()
        assert [watched.current() for _ in range(3)] == [1, 1, 1]
        assert len(caplog.messages) == 1
    file.write_text("3")
    assert watched.current() == 3


def test_a_file_that_is_there_no_longer_and_then_as_before(file: Path) -> None:
    watched = Watched("--number", [file], number)
    aside = file.rename(file.with_name("aside"))
    assert watched.current() == 1
    aside.rename(file)
    assert watched.current() == 1


@pytest.mark.parametrize("content", [None, b"x", b"1" * ((1 << 20) + 1)])
def test_it_must_be_good_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "number"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ServeError, match="--number"):
        Watched("--number", [path], number)
