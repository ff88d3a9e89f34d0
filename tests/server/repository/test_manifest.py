from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.errors import RepositoryError
from kniv.server.repository.config import load_config
from kniv.server.repository.layout import find, models
from kniv.server.repository.manifest import SUMS, Snapshot, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "m" / "1"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"one")
    (folder / "sub" / "b").write_bytes(b"two")
    (folder / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_bytes(b"three")
    return folder


def rewrite(path: Path, content: bytes) -> None:
    """Other content of the same length, with the old times: what a careless copy leaves."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "a").write_bytes(b"eno!"),
    "content of the same size and time": lambda folder: rewrite(folder / "a", b"eno"),
    "content below": lambda folder: rewrite(folder / "sub" / "b", b"owt"),
    "time": lambda folder: os.utime(folder / "a", (1, 1)),
    "rights": lambda folder: (folder / "a").chmod(0o400),
    "name": lambda folder: (folder / "a").rename(folder / "c"),
    "new file": lambda folder: (folder / "c").touch(),
    "new folder": lambda folder: (folder / "c").mkdir(),
    "less": lambda folder: (folder / "a").unlink(),
    "what a link leads to": lambda folder: rewrite(folder.parents[1] / "target", b"eerht"),
    "a link's end": lambda folder: (folder.parents[1] / "target").unlink(),
    "all of it": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(folder: Path, change: str) -> None:
    before = Snapshot.of(folder)
    assert Snapshot.of(folder) == before
    CHANGES[change](folder)
    assert Snapshot.of(folder) != before


def test_a_file_that_is_replaced_by_its_like_is_seen(folder: Path) -> None:
    before = Snapshot.of(folder)
    shutil.copy2(folder / "a", folder / "c")
    (folder / "c").replace(folder / "a")
    assert Snapshot.of(folder) != before


def test_links_in_circles_and_pipes_do_no_harm(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder.parents[1])
    (folder / "self").symlink_to(folder / "self")
    os.mkfifo(folder / "pipe")
    assert Snapshot.of(folder) == Snapshot.of(folder)
    assert len(Snapshot.of(folder).entries) == 7


def test_a_folder_that_cannot_be_a_models_is_refused(tmp_path: Path) -> None:
    assert Snapshot.of(tmp_path / "nowhere") == Snapshot.of(tmp_path / "nowhere")
    for number in range(10_001):
        (tmp_path / str(number)).touch()
    with pytest.raises(RepositoryError, match="holds more than"):
        Snapshot.of(tmp_path)
    deep = tmp_path / "deep" / "/".join("d" * 20)
    deep.mkdir(parents=True)
    with pytest.raises(RepositoryError, match="nested too deeply"):
        Snapshot.of(tmp_path / "deep")


def sums(folder: Path, *names: str) -> str:
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def test_files_that_agree_with_their_checksums_pass(folder: Path) -> None:
    verify(folder)
    digest = hashlib.sha256(b"one").hexdigest()
    (folder / SUMS).write_text(f"{sums(folder, 'sub/b', 'link')}\n{digest.upper()} *a\n")
    (folder / "metadata.json").write_text(json.dumps({"sha256": {"a": digest, "not-shipped": "0" * 64}}))
    compared = verify(folder)
    assert compared.keys() == {"sub/b", "link", "a"} and compared["a"] == digest


def test_names_that_need_escaping_are_read(folder: Path) -> None:
    (folder / "back\\slash\nline").write_bytes(b"x")
    (folder / SUMS).write_text(f"\\{hashlib.sha256(b'x').hexdigest()}  back\\\\slash\\nline\n")
    verify(folder)


def test_a_file_that_differs_is_named(folder: Path) -> None:
    (folder / SUMS).write_text(sums(folder, "a", "sub/b"))
    rewrite(folder / "sub" / "b", b"owt")
    with pytest.raises(RepositoryError, match=r"sub/b: has SHA-256 .* SHA256SUMS says"):
        verify(folder)
    (folder / SUMS).unlink()
    (folder / "metadata.json").write_text(json.dumps({"sha256": {"a": "0" * 64}}))
    with pytest.raises(RepositoryError, match=r"/a: has SHA-256 .* metadata\.json says"):
        verify(folder)


def test_a_file_that_is_listed_and_missing_is_named(folder: Path) -> None:
    (folder / SUMS).write_text(f"{'0' * 64}  c\n")
    with pytest.raises(RepositoryError, match="/c: is missing, though SHA256SUMS lists it"):
        verify(folder)


def test_lists_that_disagree_are_told(folder: Path) -> None:
    (folder / SUMS).write_text(sums(folder, "a"))
    (folder / "metadata.json").write_text(json.dumps({"sha256": {"a": "0" * 64}}))
    with pytest.raises(RepositoryError, match=r"metadata\.json: has a checksum of a that differs"):
        verify(folder)


@pytest.mark.parametrize("name", ["../target", "/etc/passwd", "sub/../../target", "..", "."])
def test_a_list_cannot_name_files_outside(folder: Path, name: str) -> None:
    (folder / SUMS).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(RepositoryError, match="SHA256SUMS: lists"):
        verify(folder)
    (folder / SUMS).unlink()
    (folder / "metadata.json").write_text(json.dumps({"sha256": {name: "0" * 64}}))
    with pytest.raises(RepositoryError, match=r"metadata\.json: lists"):
        verify(folder)


@pytest.mark.parametrize("line", ["x  a", f"{'0' * 63}  a", f"{'0' * 64} a", f"{'0' * 64}  ", "\x00"])
def test_a_line_that_is_no_checksum_is_named(folder: Path, line: str) -> None:
    (folder / SUMS).write_text(f"{sums(folder, 'a')}{line}\n")
    with pytest.raises(RepositoryError, match="SHA256SUMS: line 2: "):
        verify(folder)


@pytest.mark.parametrize("value", [3, [], {"a": 3}, {"a": "0"}, None])
def test_malformed_checksums_in_the_metadata_are_named(folder: Path, value: object) -> None:
    (folder / "metadata.json").write_text(json.dumps({"sha256": value}))
    with pytest.raises(RepositoryError, match=r"metadata\.json: 'sha256' must"):
        verify(folder)


def test_a_list_is_no_way_to_open_pipes_or_folders(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for name in ("pipe", "sub"):
        (folder / SUMS).write_text(f"{'0' * 64}  {name}\n")
        with pytest.raises(RepositoryError, match=f"{name}: is no regular file"):
            verify(folder)
    (folder / SUMS).unlink()
    os.mkfifo(folder / SUMS)
    with pytest.raises(RepositoryError, match="SHA256SUMS: is no regular file"):
        verify(folder)


@given(st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_list_breaks_the_comparison(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("version")
    (folder / SUMS).write_bytes(content)
    try:
        verify(folder)
    except RepositoryError as error:
        assert str(folder) in str(error)


def test_the_embedded_model_agrees_and_nothing_is_written(mini: Path) -> None:
    before = Snapshot.of(mini.parent)
    verify(mini)
    root = mini.parents[1]
    assert find(root, "kniv-mini") in models(root)
    load_config(mini.parent)
    assert Snapshot.of(mini.parent) == before
