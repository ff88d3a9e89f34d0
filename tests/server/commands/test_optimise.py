from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from kniv.server.cli import app
from kniv.server.graphs import pipeline
from kniv.server.graphs.graph import Graph
from kniv.server.graphs.pipeline import Optimised
from kniv.server.graphs.report import PassReport
from kniv.server.runtime import cache
from kniv.server.runtime.prepare import prepared
from kniv.server.runtime.session import OUTPUTS, Session


def invoke(repository: Path, *arguments: object) -> tuple[int, str, str]:
    """Status, output and error output of the command, run in this process."""
    done = CliRunner().invoke(app, ["optimise", *map(str, arguments), "--model-repository", str(repository)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def version(tiny: Path, repository: Path) -> Path:
    return Path(shutil.copytree(tiny, repository / "tiny" / "1", ignore=shutil.ignore_patterns(".optimised")))


@pytest.mark.parametrize("named", ["model", "folder", "version", "graph"])
def test_graphs_are_rewritten_where_servers_look(version: Path, repository: Path, named: str) -> None:
    graph = version / "cascade.onnx"
    place = {"model": "tiny", "folder": version.parent, "version": version, "graph": graph}[named]
    status, told, _ = invoke(repository, place)
    assert status == 0
    for name in ("constants", "attention", "relations", "tasks"):
        assert any(line.split()[:2] == [name, "applied,"] for line in told.splitlines()), told
    assert "lengths    skipped" in told
    assert "in a padded batch" in told
    kept = cache.find(graph, cache.key_of(graph))
    assert kept is not None
    assert kept.parent.parent == version / ".optimised"
    assert len(list(kept.parent.parent.iterdir())) == (1 if named == "graph" else 2)


def test_one_graph_goes_to_a_file(version: Path, repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "fast.onnx"
    assert invoke(repository, version / "cascade.onnx", "--output", target)[0] == 0
    assert "tasks" in {value.name for value in onnx.load(target).graph.input}
    status, _, told = invoke(repository, "tiny", "--output", target)
    assert (status, "but there are 2" in told) == (1, True)


def test_half_precision_is_a_variant_of_its_own(version: Path, repository: Path) -> None:
    status, told, _ = invoke(repository, "tiny", "--fp16")
    assert status == 0, told
    ids = np.array([[1, 7, 9, 2]])
    feed = (ids, np.ones_like(ids), np.array([1]))
    halved, full = (Session(version / name).run(*feed, OUTPUTS) for name in ("cascade-fp16.onnx", "cascade.onnx"))
    for name in ("pos_logits", "ner_logits", "arc_scores", "cls_logits"):
        np.testing.assert_allclose(halved[name], full[name], atol=0.02, err_msg=name)
    assert "is there already" in invoke(repository, "tiny", "--fp16")[2]


def test_a_graph_that_cannot_be_halved_says_why(version: Path, repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    status, _, told = invoke(repository, version / "cascade-int8.onnx", "--fp16", "--output", target)
    assert (status, "cannot be put into FP16: the graph is quantised" in told, target.exists()) == (1, True, False)
    assert invoke(repository, version / "cascade.onnx", "--output", target)[0] == 0
    _, _, told = invoke(repository, target, "--fp16", "--output", target)
    assert "cannot be put into FP16: the graph has been rewritten before" in told


def test_fixed_ranges_make_an_int8_variant(version: Path, repository: Path) -> None:
    target = version / "cascade-int8.onnx"
    target.unlink()
    assert invoke(repository, "tiny", "--int8")[0] == 0
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in onnx.load(target).graph.initializer)


@pytest.fixture
def wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that change answers."""

    def wrong(model: onnx.ModelProto, *_: object, **__: object) -> Optimised:
        graph = Graph(model)
        maker = graph.producer("cls_logits")
        assert maker is not None
        maker.input[2] = graph.weight("wrong", np.full(8, 5, dtype=np.float32))
        graph.close()
        return Optimised(model, (PassReport("wrong", 1, "a bias is not what it was"),))

    monkeypatch.setattr(pipeline, "optimise", wrong)


@pytest.mark.usefixtures("wrongly")
def test_what_answers_differently_is_not_kept_nor_made_again(version: Path, repository: Path) -> None:
    graph = version / "cascade.onnx"
    status, _, told = invoke(repository, graph)
    assert (status, "answers differently" in told, "as it is" in told) == (1, True, True)
    assert [entry.stat().st_size for entry in (version / ".optimised").rglob(cache.GRAPH)] == [0]
    assert prepared(graph) == graph


@pytest.mark.usefixtures("wrongly")
def test_what_answers_differently_takes_no_files_place(version: Path, repository: Path) -> None:
    """Neither that of the source nor of another file of the user's."""
    source = (version / "cascade.onnx").read_bytes()
    before = set(version.iterdir())
    for target in (version / "cascade.onnx", version / "cascade-int8.onnx"):
        content = target.read_bytes()
        assert invoke(repository, version / "cascade.onnx", "--output", target)[0] == 1
        assert target.read_bytes() == content
    assert (version / "cascade.onnx").read_bytes() == source
    assert set(version.iterdir()) == before


@pytest.mark.parametrize(("place", "told"), [("none", "no model"), (".", "holds no graph"), ("labels.json", "no ONNX")])
def test_what_is_no_graph_is_refused_by_name(version: Path, repository: Path, place: str, told: str) -> None:
    given = {"none": "none", ".": repository, "labels.json": version / "labels.json"}[place]
    status, _, said = invoke(repository, given)
    assert (status, told in said) == (1, True), said
