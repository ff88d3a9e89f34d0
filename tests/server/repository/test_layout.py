from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.errors import InvalidRequestError, NotFoundError, RepositoryError
from kniv.server.repository.layout import find, models, stays_inside


def touch(root: Path, *parts: str) -> Path:
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(root: Path) -> dict[str, list[int]]:
    return {model.name: [files.version for files in model.versions] for model in models(root)}


def test_a_model_has_a_configuration_or_a_version(tmp_path: Path) -> None:
    touch(tmp_path, "configured", "config.pbtxt")
    for version in ("1", "10", "2", "0", "007", "abc", "-3", "1.5", "٣", "9223372036854775808", "1" * 200):
        touch(tmp_path, "versions", version, "cascade.onnx")
    touch(tmp_path, "versions", "3")  # a file
    touch(tmp_path, "neither", "0", "cascade.onnx")
    touch(tmp_path, ".hidden", "1", "cascade.onnx")
    touch(tmp_path, "config.pbtxt")
    assert found(tmp_path) == {"configured": [], "versions": [10, 2, 1]}
    assert find(tmp_path, "versions").versions[0].graphs == {"fp32": tmp_path / "versions" / "10" / "cascade.onnx"}


def test_an_empty_repository_holds_nothing_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert models(tmp_path) == []
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for root in (tmp_path / "nowhere", touch(tmp_path, "file"), loop):
        with pytest.raises(RepositoryError, match="no such model repository"):
            models(root)
        with pytest.raises(RepositoryError, match="no such model repository"):
            find(root, "m")


def test_circles_and_dead_ends_of_links_lead_nowhere(tmp_path: Path) -> None:
    version = touch(tmp_path, "m", "1", "cascade.onnx").parent
    (version / "up").symlink_to(tmp_path)
    (version / "cascade-int8.onnx").symlink_to(version / "cascade-int8.onnx")
    (version / "cascade-fp16.onnx").symlink_to(version / "gone")
    os.mkfifo(version / "tokenizer.json")
    (tmp_path / "m" / "2").symlink_to(tmp_path / "m" / "3")
    (tmp_path / "m" / "3").symlink_to(tmp_path / "m" / "2")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "root").symlink_to(tmp_path)
    assert found(tmp_path) == {"m": [1]}
    model = find(tmp_path, "m")
    assert list(model.versions[0].graphs) == ["fp32"]
    (tmp_path / "m" / "4").symlink_to(tmp_path / "m")
    assert found(tmp_path) == {"m": [4, 1]}


def test_links_are_followed_inside_of_the_repository_only(tmp_path: Path) -> None:
    root, outside = tmp_path / "repository", tmp_path / "outside"
    touch(root, ".store", "a", "cascade.onnx")
    touch(root, "m", "config.pbtxt")
    (root / "m" / "1").symlink_to(root / ".store" / "a")
    (root / "alias").symlink_to("m")
    (tmp_path / "entry").symlink_to(root)
    assert found(tmp_path / "entry") == {"alias": [1], "m": [1]}
    assert find(tmp_path / "entry", "m").problem == ""
    touch(outside, "x", "1", "cascade.onnx")
    touch(outside, "config.pbtxt")
    for link, target in {
        root / "whole": outside / "x",
        root / "m" / "2": outside / "x" / "1",
        root / ".store" / "a" / "labels.json": outside / "labels.json",
        root / "configured" / "config.pbtxt": outside / "config.pbtxt",
    }.items():
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        name = link.relative_to(root).parts[0].replace(".store", "m")
        with pytest.raises(RepositoryError, match=f"'{link.name}' is a link that leads out of the repository"):
            find(root, name)
        assert next(model for model in models(root) if model.name == name).problem
        link.unlink()
    assert find(root, "m").problem == ""


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../m", "a/b", "/etc", "m/", ".hidden", "a\0b", "a\nb", "\ud800", "x" * 256, "é" * 128]
)
def test_names_that_no_model_can_have_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "m", "config.pbtxt")
    with pytest.raises(InvalidRequestError, match="model_name"):
        find(tmp_path, name)


def test_a_model_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    touch(tmp_path, "file")
    touch(tmp_path, "empty", "readme")
    for name in ("m", "file", "empty", "m\\n", "x" * 255):
        with pytest.raises(NotFoundError):
            find(tmp_path, name)


@given(st.text(st.sampled_from("a./\\\0~ é\n"), max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_name_leads_out_of_the_repository(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "r"
        touch(Path(folder), "a", "1", "cascade.onnx")
        touch(root, "a", "1", "cascade.onnx")
        try:
            path = find(root, name).path
        except (InvalidRequestError, NotFoundError):
            return
        assert path.resolve().parent == root.resolve()


@given(st.text(st.sampled_from("a./\0"), max_size=8))
def test_paths_that_stay_inside_do(name: str) -> None:
    if stays_inside(name):
        inside = os.path.normpath(f"/base/folder/{name}")
        assert inside.startswith("/base/folder/")
