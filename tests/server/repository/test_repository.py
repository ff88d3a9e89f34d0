from __future__ import annotations

import json
from pathlib import Path

import pytest

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import scan
from kniv.server.repository.metadata import Metadata


def graph(root: Path, *parts: str) -> None:
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_versions_are_positive_numbers_newest_first(tmp_path: Path) -> None:
    for version in ("1", "10", "2", "0", "007", "abc", "-3", "1.5"):
        graph(tmp_path, "b", version, "cascade.onnx")
    graph(tmp_path, "a", "1", "cascade-int8.onnx")
    graph(tmp_path, "a", "1", "cascade.onnx")
    graph(tmp_path, ".hidden", "1", "cascade.onnx")
    (tmp_path / "README.md").touch()
    found = scan(tmp_path)
    assert [(files.model, files.version) for files in found] == [("a", 1), ("b", 10), ("b", 2), ("b", 1)]
    assert list(found[0].graphs) == ["int8", "fp32"]


def test_a_missing_and_an_empty_repository_say_so(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="no such model repository"):
        scan(tmp_path / "nowhere")
    with pytest.raises(RepositoryError, match="holds no model"):
        scan(tmp_path)


LISTS = {"pos": ["X"], "ner": ["O", "B-a"], "srl": ["O", "V"], "cls": ["a", "b"], "deprel": ["root", "dep"]}


@pytest.mark.parametrize("values", [None, [], ["a", "a"], ["a", 1], "ab", [""]])
@pytest.mark.parametrize("name", LISTS)
def test_a_label_list_at_fault_is_named(tmp_path: Path, name: str, values: object) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(LISTS | {name: values}))
    with pytest.raises(RepositoryError, match=f"labels.json: '{name}'"):
        Labels.load(path)


@pytest.mark.parametrize("name", ["ner", "srl", "deprel"])
def test_a_list_without_the_label_that_decoding_needs_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(LISTS | {name: ["a"]}))
    with pytest.raises(RepositoryError, match=f"'{name}' lacks"):
        Labels.load(path)


def test_labels_come_back_from_their_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(LISTS))
    labels = Labels.load(path)
    path.write_text(labels.to_json())
    assert Labels.load(path) == labels


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_file_that_holds_no_object_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metadata.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(RepositoryError, match=r"metadata\.json"):
        Metadata.load(path)


def test_limits_have_the_familys_values_where_none_are_given(tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    path.write_text('{"max_subwords": 64}')
    assert Metadata.load(path) == Metadata(max_subwords=64)
    for bad in ('{"max_subwords": 0}', '{"max_subwords": "64"}', '{"max_subwords": 50, "max_previous_subwords": 48}'):
        path.write_text(bad)
        with pytest.raises(RepositoryError, match="max_"):
            Metadata.load(path)
