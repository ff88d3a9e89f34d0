from __future__ import annotations

import json
from pathlib import Path

import pytest

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import Labels
from kniv.server.repository.metadata import Metadata

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
