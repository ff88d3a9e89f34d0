from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from kniv.server.repository.labels import Labels
from kniv.training import cli, reference
from kniv.training.checkpoint import save_model
from kniv.training.corpus import Corpus
from kniv.training.data.dialog import Utterance
from kniv.training.data.treebank import TreeSentence
from kniv.training.evaluate import Gold
from kniv.training.package import FP32, INT8, read_metadata, record_metrics
from kniv.training.reference import Shape
from kniv.training.report import FIGURES, open_model
from kniv.training.rows import Row, RowEncoder

from .conftest import tiny_cascade


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def version(labels: Labels, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(tmp_path / "checkpoint", tiny_cascade(), labels, tokenizer)
    folder = tmp_path / "kniv-tiny" / "2"
    run("export", "--checkpoint", tmp_path / "checkpoint", "--output", folder)
    run("quantise", "--model", folder)
    return folder


def test_exported_folder_holds_what_the_server_reads(version: Path, labels: Labels) -> None:
    facts = read_metadata(version)
    assert facts["name"] == "kniv-tiny"
    assert (facts["max_subwords"], facts["max_previous_subwords"], facts["max_context_turns"]) == (128, 48, 1)
    for name in (FP32, INT8):
        assert facts["sha256"][name] == hashlib.sha256((version / name).read_bytes()).hexdigest()
    assert Labels.load(version / "labels.json") == labels
    assert Tokenizer.from_file(str(version / "tokenizer.json")).truncation is None


def test_exporting_anew_drops_another_model_s_graph_and_figures(version: Path, tmp_path: Path) -> None:
    record_metrics(version, "fp32", {"pos": 0.123456})
    assert read_metadata(version)["metrics"] == {"fp32": {"pos": 0.1235}}
    run("export", "--checkpoint", tmp_path / "checkpoint", "--output", version)
    assert "metrics" not in read_metadata(version)
    assert not (version / INT8).exists()


def test_newest_version_is_opened_and_fp32_may_be_elsewhere_or_recorded(version: Path, tmp_path: Path) -> None:
    (tmp_path / "kniv-tiny" / "10").mkdir()
    assert set(open_model(version.parent).variants) == {"fp32", "int8"}
    graph = version / FP32
    graph = graph.rename(tmp_path / "elsewhere.onnx")
    record_metrics(version, "fp32", {"pos": 0.5})
    assert open_model(version.parent).recorded == {"pos": 0.5}
    for fp32 in (graph, tmp_path / "checkpoint"):
        opened = open_model(version.parent, fp32)
        assert (set(opened.variants), opened.recorded) == ({"fp32", "int8"}, {})
    assert set(open_model(tmp_path / "checkpoint").variants) == {"fp32"}
    with pytest.raises(FileNotFoundError, match="holds neither"):
        open_model(tmp_path)


def test_evaluate_ends_with_one_line_of_json(
    labels: Labels, tokenizer: Tokenizer, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kniv.training.evaluate.baseline", lambda gold: 0.5)
    monkeypatch.setattr("kniv.training.report.Evaluation.run", lambda *_: dict.fromkeys(FIGURES, 0.25))
    save_model(tmp_path, tiny_cascade(), labels, tokenizer)
    output = run("evaluate", "--model", tmp_path, "--data", data, "--json")
    line = json.loads(output.splitlines()[-1])
    assert set(line["fp32"]) == set(FIGURES)
    assert line["int8"] == {}
    assert line["baseline"] == {"ner_spacy": 0.5}
    assert "25.00" in output


def test_missing_folders_are_named(tmp_path: Path) -> None:
    for arguments in (["--model", tmp_path, "--data", tmp_path], ["--model", tmp_path, "--data", tmp_path / "none"]):
        result = CliRunner().invoke(cli.app, ["evaluate", *map(str, arguments)])
        assert result.exit_code == 2
        assert tmp_path.name in result.output.replace("\n", "").replace("│", "").replace(" ", "")


def test_fit_writes_a_checkpoint_that_export_takes(
    labels: Labels, encoder: RowEncoder, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = encoder.labelled(["Ann", "b"], {name: [0, 0] for name in ("pos", "ner", "deprel", "srl")}, [0, 0], 1)
    turn = Row(encoder.pair(None, "a"), np.zeros(0, dtype=np.int64), act=0)
    assert row is not None
    corpus = Corpus([row], [row], [row], [turn], [turn], [turn])
    tree = TreeSentence("s", "", ("Ann", "b"), ("NOUN", "VERB"), (1, 1), ("nsubj", "root"))
    gold = Gold([tree], [], [], [Utterance(None, "a", "inform")], [], [])
    monkeypatch.setattr("kniv.training.corpus.load_corpus", lambda *_: corpus)
    monkeypatch.setattr("kniv.training.mini.new_mini", lambda *_: (tiny_cascade(), tokenizer))
    monkeypatch.setattr("kniv.training.evaluate.Gold.load", lambda *_, **__: gold)
    (tmp_path / "labels.json").write_text(labels.to_json(), "utf-8")
    run("fit", "--data", tmp_path, "--output", tmp_path / "run", "--encoder", tmp_path, "--rounds", 2, "--threads", 1)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [set(record["dev"]) >= {"pos", "uas", "las", "cls"} for record in records if "round" in record] == [True] * 2
    run("export", "--checkpoint", tmp_path / "run", "--output", tmp_path / "kniv-x" / "1")
    training = read_metadata(tmp_path / "kniv-x" / "1")["training"]
    assert (training["seed"], training["rounds"], training["steps"]) == (17, 2, training["of_steps"])


def test_reference_writes_the_published_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reference.SHAPES, "small", Shape(64, 2, 4, 128, vocabulary=300))
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    run("reference", "--size", "small", "--output", tmp_path / "out", "--tokenizer", tmp_path)
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {
        "onnx/cascade.onnx",
        "onnx/cascade-int8.onnx",
        "tokenizer.json",
        "metadata.json",
        "model.pt",
    }
    shapes = {
        node.name: [axis.dim_param or axis.dim_value for axis in node.type.tensor_type.shape.dim]
        for node in onnx.load(tmp_path / "out" / "onnx" / "cascade.onnx").graph.output
    }
    assert shapes == {
        "pos_logits": ["B", "S", 17],
        "ner_logits": ["B", "S", 37],
        "arc_scores": ["B", "S", "S"],
        "label_scores": ["B", "S", "S", 53],
        "srl_logits": ["B", "S", 42],
        "cls_logits": ["B", 8],
    }
