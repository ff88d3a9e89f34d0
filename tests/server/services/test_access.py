from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import DeniedError, NotAllowedError, ServeError
from kniv.server.services.access import Access

TOKEN = "s3cret-token"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def bearing(value: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "x"), ("authorization", value)]


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
def test_the_token_opens(file: Path, value: str) -> None:
    Access.of(file, elsewhere=False).check(bearing(value))


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        bearing(""),
        bearing("Bearer"),
        bearing("Bearer "),
        bearing(TOKEN),
        bearing(f"Basic {TOKEN}"),
        bearing(f"Bearer {TOKEN}x"),
        bearing(f"Bearer {TOKEN[:-1]}"),
        [*bearing(f"Bearer {TOKEN}"), *bearing("Bearer other")],
    ],
)
def test_nothing_else_does(file: Path, metadata: list[tuple[str, str | bytes]] | None) -> None:
    with pytest.raises(DeniedError, match="authorization") as failure:
        Access.of(file, elsewhere=False).check(metadata)
    assert TOKEN not in str(failure.value)


@given(st.text())
def test_no_text_is_taken_for_the_token(text: str) -> None:
    access = Access(digest=b"\0" * 32)
    with pytest.raises(DeniedError):
        access.check(bearing(f"Bearer {text}"))


def test_without_a_token_everybody_may() -> None:
    Access.of(None, elsewhere=False).check([])


def test_calls_served_elsewhere_are_refused_whatever_they_carry(file: Path) -> None:
    for access in (Access.of(file, elsewhere=True), Access.of(None, elsewhere=True)):
        with pytest.raises(NotAllowedError, match="--admin-port"):
            access.check(bearing(f"Bearer {TOKEN}"))


def test_the_token_is_not_kept(file: Path) -> None:
    assert TOKEN not in repr(Access.of(file, elsewhere=False))


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"x" * 5000, "schlüssel".encode(), b"a\0b"])
def test_a_file_that_holds_no_token(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ServeError, match="--admin-token-file"):
        Access.of(path, elsewhere=False)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="cannot be read"):
        Access.of(tmp_path / "token", elsewhere=False)
    with pytest.raises(ServeError, match="cannot be read"):
        Access.of(tmp_path, elsewhere=False)
