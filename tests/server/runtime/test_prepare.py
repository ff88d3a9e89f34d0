from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.server.graphs.contents import contents

from kniv.server.graphs import pipeline
from kniv.server.graphs.mapped import LEAST, WEIGHTS
from kniv.server.repository.labels import Labels
from kniv.server.repository.manifest import Snapshot
from kniv.server.runtime import cache, prepare
from kniv.server.runtime.prepare import keep, keep_source, prepared, rewrite
from kniv.server.runtime.session import OUTPUTS, Session


@pytest.fixture
def graph(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph in a folder of its own, of a user without caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = tmp_path / "model" / "1"
    folder.mkdir(parents=True)
    return Path(shutil.copy(tiny / "cascade.onnx", folder))


@pytest.fixture
def rewritings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The graphs that were rewritten, in order."""
    found: list[Path] = []

    def counted(path: Path) -> pipeline.Optimised:
        found.append(path)
        return rewrite(path)

    monkeypatch.setattr(prepare, "rewrite", counted)
    return found


def entries(graph: Path) -> list[Path]:
    """The graphs of all entries, and whatever else lies there."""
    found = cache.beside(graph).iterdir()
    return sorted(entry / cache.GRAPH if (entry / cache.GRAPH).is_file() else entry for entry in found)


def read_only(folder: Path) -> None:
    """Root may write anywhere but below a file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"")


def test_a_graph_is_rewritten_once(graph: Path, rewritings: list[Path]) -> None:
    before = Snapshot.of(graph.parent.parent)
    made = prepared(graph)
    assert entries(graph) == [made]
    assert prepared(graph) == made
    assert rewritings == [graph]
    assert Snapshot.of(graph.parent.parent) == before


@pytest.mark.parametrize("damage", [b"", b"other", None])
@pytest.mark.parametrize("name", [cache.GRAPH, WEIGHTS])
def test_a_damaged_entry_is_made_anew(graph: Path, rewritings: list[Path], name: str, damage: bytes | None) -> None:
    made = prepared(graph)
    assert isinstance(made, Path)
    content = made.with_name(name).read_bytes()
    made.with_name(name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    again = prepared(graph)
    assert isinstance(again, Path)
    assert len(rewritings) == 2
    assert entries(graph) == [again]
    assert {node.name for node in Session(graph)._session.get_overridable_initializers()} == {"tasks"}


@pytest.mark.parametrize("name", [cache.GRAPH, WEIGHTS])
def test_an_entry_that_lacks_a_file_is_made_anew(graph: Path, rewritings: list[Path], name: str) -> None:
    made = prepared(graph)
    assert isinstance(made, Path)
    made.with_name(name).unlink()
    assert prepared(graph) == made
    assert len(rewritings) == 2
    assert made.with_name(name).is_file()


def test_what_another_process_has_just_put_there_is_taken(graph: Path) -> None:
    made = prepared(graph)
    assert keep(graph, cache.key_of(graph), rewrite(graph)) == made
    assert entries(graph) == [made]


def test_a_session_outlives_its_entry(graph: Path) -> None:
    """Its weights are mapped: the files may go, what is mapped stays."""
    session = Session(graph)
    before = answers(session)
    shutil.rmtree(cache.beside(graph))
    for name, values in answers(session).items():
        np.testing.assert_array_equal(values, before[name])


def test_a_digest_that_is_known_gives_the_same_key(graph: Path) -> None:
    with graph.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert cache.key_of(graph, digest) == cache.key_of(graph) != cache.key_of(graph, "0" * 64)


def test_what_is_no_file_of_ours_is_passed_over(graph: Path, tmp_path: Path) -> None:
    made = prepared(graph)
    assert isinstance(made, Path)
    elsewhere = made.replace(tmp_path / "elsewhere")
    made.symlink_to(elsewhere)
    key, folder = cache.key_of(graph), cache.beside(graph)
    os.mkfifo(folder / f"{graph.name}.{key}.0")
    (folder / f"{graph.name}.{key}.1").symlink_to(tmp_path)
    (folder / f"{graph.name}.{key}.2").mkdir()
    os.mkfifo(folder / f"{graph.name}.{key}.2" / cache.GRAPH)
    assert cache.find(graph, key) is None
    again = prepared(graph)
    assert again == made and not made.is_symlink()
    assert elsewhere.is_file()


def test_a_graph_that_changes_while_it_is_rewritten_is_not_kept(
    graph: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the old file, put back, would be answered for by what was made of the other."""

    def meanwhile(path: Path) -> pipeline.Optimised:
        shutil.copy(tiny / "cascade-int8.onnx", path)
        return rewrite(path)

    monkeypatch.setattr(prepare, "rewrite", meanwhile)
    assert prepared(graph) == graph
    assert "changed while it was read" in caplog.text
    assert not cache.beside(graph).exists()


def test_what_killed_writers_left_is_deleted_and_what_is_being_written_is_not(graph: Path) -> None:
    folder = cache.beside(graph)
    left, written = folder / ".left", folder / ".written"
    for work in (left, written):
        work.mkdir(parents=True)
        (work / "graph.part").write_bytes(b"half")
        os.utime(work, (0, 0))
    os.utime(left / "graph.part", (0, 0))
    made = prepared(graph)
    assert entries(graph) == sorted([made, written])


def test_a_cache_that_is_named_by_a_relative_path_is_ignored(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    read_only(cache.beside(graph))
    made = prepared(graph)
    assert isinstance(made, Path) and made.is_relative_to(tmp_path / "home" / ".cache" / "kniv-serve")


def test_another_graph_of_the_name_takes_the_place_of_the_old(graph: Path, tiny: Path) -> None:
    other = Path(shutil.copy(tiny / "cascade-int8.onnx", graph.parent))
    first, second = prepared(graph), prepared(other)
    shutil.copy(tiny / "cascade-int8.onnx", graph)
    third = prepared(graph)
    assert first != third
    assert set(entries(graph)) == {second, third}


def test_changed_passes_make_entries_stale(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepared(graph)
    monkeypatch.setattr(cache, "_code", lambda: "other passes")
    assert prepared(graph) != made
    assert made not in entries(graph)


def test_a_read_only_folder_leaves_it_to_the_users_caches(
    graph: Path, rewritings: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_only(cache.beside(graph))
    with caplog.at_level(logging.INFO):
        made = prepared(graph)
    assert [record.args for record in caplog.records if "cannot be written to" in record.msg] == [
        (graph.parent, graph.name, tmp_path / "user" / "kniv-serve" / "graphs")
    ]
    assert isinstance(made, Path)
    assert made.is_relative_to(tmp_path / "user")
    assert prepared(graph) == made
    assert len(rewritings) == 1


def test_with_no_folder_at_all_the_graph_stays_in_memory(graph: Path, tmp_path: Path) -> None:
    expected = answers(Session(graph))
    shutil.rmtree(cache.beside(graph))
    read_only(cache.beside(graph))
    read_only(tmp_path / "user")
    assert isinstance(prepared(graph), bytes)
    for name, values in answers(Session(graph)).items():
        np.testing.assert_array_equal(values, expected[name])


def test_a_full_disk_leaves_the_graph_in_memory_with_all_its_weights(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, target: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    made = prepared(graph)
    assert isinstance(made, bytes)
    assert onnx.load_from_string(made).graph.initializer
    assert entries(graph) == []


def test_a_pass_that_fails_leaves_the_graph_as_it_is(
    graph: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("nothing like it")

    monkeypatch.setattr(pipeline, "optimise", fails)
    assert prepared(graph) == graph
    assert "runs as it is" in caplog.text
    assert Session(graph).relation_weight is None


def test_a_rewritten_graph_that_cannot_be_loaded_leaves_its_source_serving(
    graph: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kniv.server.runtime import session

    monkeypatch.setattr(session, "prepared", lambda path, digest: b"no graph")
    assert answers(Session(graph)).keys() == set(OUTPUTS)
    assert "runs as it is" in caplog.text


def test_a_rewritten_graph_that_fails_a_trial_run_leaves_its_source_serving(
    graph: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kniv.server.runtime import session

    made = rewrite(graph).model
    bias = next(tensor for tensor in made.graph.initializer if tensor.name == "pos.output.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(bias.dims), np.nan, np.float32), bias.name))
    monkeypatch.setattr(session, "prepared", lambda path, digest: made.SerializeToString())
    tried = Session(graph)
    assert tried.relation_weight is not None
    tried.check(Labels.load(tiny / "labels.json"), 100, 16)
    assert "runs as it is" in caplog.text
    assert tried.relation_weight is None
    assert all(np.isfinite(values).all() for values in answers(tried).values())


def test_weights_in_other_files_are_a_reason_to_leave_a_graph_alone(
    graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    onnx.save(onnx.load(graph), graph, save_as_external_data=True, location="weights", size_threshold=0)
    assert prepared(graph) == graph
    assert "save it as one file" in caplog.text


def test_a_small_graph_that_has_been_rewritten_is_loaded_as_it_is(
    graph: Path, rewritings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_WORTH_MAPPING", 1 << 40)
    pipeline.optimise_file(graph, graph)
    assert prepared(graph) == graph == prepared(graph)
    assert rewritings == [graph]
    assert [entry.stat().st_size for entry in entries(graph)] == [0]


def test_the_weights_of_a_large_graph_that_has_been_rewritten_are_mapped(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.optimise_file(graph, graph)
    monkeypatch.setattr(prepare, "_WORTH_MAPPING", LEAST)
    made = prepared(graph)
    assert isinstance(made, Path) and made != graph
    assert contents(onnx.load(made)) == contents(onnx.load(graph))


def test_a_graph_that_is_to_run_as_it_is_has_no_other_entry(graph: Path) -> None:
    assert prepared(graph) != graph
    keep_source(graph, cache.key_of(graph))
    assert prepared(graph) == graph
    assert [entry.stat().st_size for entry in entries(graph)] == [0]


def test_what_is_kept_is_what_was_made(graph: Path) -> None:
    done = rewrite(graph)
    content = contents(onnx.ModelProto.FromString(done.model.SerializeToString()))
    kept = keep(graph, cache.key_of(graph), done)
    assert kept is not None
    assert contents(onnx.load(kept)) == content


def answers(session: Session) -> dict[str, np.ndarray]:
    ids = np.array([[1, 5, 9, 7], [2, 3, 0, 0]])
    return session.run(ids, (ids > 0).astype(np.int64), np.array([1, 0]), OUTPUTS)


def test_rows_longer_than_the_passes_are_proven_for_are_run_by_the_source(
    graph: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kniv.server.runtime import session

    monkeypatch.setattr(session, "LONGEST", 8)
    labels, tried = Labels.load(tiny / "labels.json"), Session(graph)
    tried.check(labels, 100, 8)
    assert tried.relation_weight is not None
    tried.check(labels, 100, 9)
    assert "rows have up to 9 subwords" in caplog.text
    assert tried.relation_weight is None
