from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kniv.server.cli import app
from kniv.server.repository.layout import CACHE
from kniv.server.repository.manifest import verify

from .conftest import Run

DATA = Path(__file__).parents[4] / "shared/data"


def invoke(repository: Path, *arguments: object) -> tuple[int, str]:
    """Status and error output of the command, run in this process."""
    given = ["import", *map(str, arguments), "--model-repository", str(repository)]
    done = CliRunner().invoke(app, given)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stderr


def names(folder: Path) -> set[str]:
    """What a folder holds, but for what the server keeps beside graphs."""
    return {path.name for path in folder.iterdir() if path.name != CACHE}


@pytest.fixture
def folder(tmp_path: Path, mini: Path) -> Path:
    """The embedded model, laid out as published."""
    target = tmp_path / "kniv-deberta-nlp-base-en-xsmall"
    (target / "onnx").mkdir(parents=True)
    shutil.copy(mini / "cascade-int8.onnx", target / "onnx")
    shutil.copy(mini / "tokenizer.json", target)
    (target / "metadata.json").write_text(json.dumps({"max_subwords": 128}))
    return target


@pytest.mark.parametrize("part", [".", "onnx", "onnx/cascade-int8.onnx"])
def test_a_published_folder_becomes_a_version(folder: Path, repository: Path, part: str) -> None:
    if part == "onnx":
        (folder / "onnx" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    source = folder / part
    assert invoke(repository, source, *(["--name", "kniv-xsmall"] if part == "onnx" else [])) == (0, "")
    assert invoke(repository, source, "--name", "kniv-xsmall")[0] == 0
    made = repository / "kniv-xsmall"
    assert names(made) == {"1", "2"}
    assert names(made / "2") == {
        "cascade-int8.onnx", "tokenizer.json", "labels.json", "metadata.json", "SHA256SUMS",
    }  # fmt: skip
    verify(made / "1")
    metadata = json.loads((made / "1" / "metadata.json").read_text())
    assert (metadata["name"], metadata["source"]) == ("kniv-xsmall", {"path": str(source)})


def test_a_version_folder_keeps_its_name_and_a_taken_number_is_refused(mini: Path, repository: Path) -> None:
    assert invoke(repository, mini, "--version", 3) == (0, "")
    assert names(repository / "kniv-mini") == {"3"}
    status, told = invoke(repository, mini, "--version", 3)
    assert (status, "exists; choose another number" in told) == (1, True)
    assert invoke(repository, mini, "--version", 3, "--force") == (0, "")
    assert names(repository / ".staging") == set()


@pytest.mark.parametrize(
    "fault",
    ["truncated", "labels", "tokenizer", "link", "sums", "size", "name", "nothing", "gone", "readme", "pipe"],
)
def test_what_is_not_fit_is_not_imported(folder: Path, repository: Path, mini: Path, fault: str) -> None:
    graph, tokenizer = folder / "onnx/cascade-int8.onnx", folder / "tokenizer.json"
    source, flags, told = folder, [], ""
    match fault:
        case "truncated":
            graph.write_bytes(graph.read_bytes()[:-1000])
            told = "onnx/cascade-int8.onnx: "
        case "labels":
            labels = json.loads((mini / "labels.json").read_text())
            (folder / "labels.json").write_text(json.dumps(labels | {"pos": labels["pos"][1:]}))
            told = "onnx/cascade-int8.onnx: output pos_logits"
        case "tokenizer":
            tokenizer.unlink()
            told = "tokenizer.json: missing"
        case "link":
            tokenizer.unlink()
            tokenizer.symlink_to(mini / "tokenizer.json")
            told = "leads out of the folder"
        case "sums":
            (folder / "SHA256SUMS").write_text(f"{'0' * 64}  tokenizer.json\n")
            told = "SHA256SUMS says"
        case "size":
            flags, told = ["--max-file-bytes", 1000], "more than the 1,000"
        case "name":
            flags, told = ["--name", "../evil"], "--name"
        case "nothing":
            graph.unlink()
            told = "holds no model"
        case "gone":
            source, told = folder / "gone", "no such file or folder"
        case "readme":
            source = folder / "README.md"
            source.touch()
            told = "is no file of a model"
        case "pipe":
            source, told = Path("/dev/null"), "no such file or folder"
    status, error = invoke(repository, source, *flags)
    assert status == 1
    assert told in error
    assert error.count("\n") == 1
    assert ".staging" not in error, "tells of our copy, which the user never saw"
    assert [path.name for path in repository.iterdir() if path.name != ".staging"] == []


def test_a_name_in_the_metadata_cannot_lead_out(folder: Path, repository: Path) -> None:
    (folder / "metadata.json").write_text(json.dumps({"name": "../../evil"}))
    assert invoke(repository, folder) == (0, "")
    assert names(repository) == {"kniv-xsmall", ".staging"}


class Malicious:
    """What a hostile checkpoint holds: unpickled, it leaves a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.sentinel),)


def test_a_pickle_is_refused_unread(tmp_path: Path, folder: Path, repository: Path, kniv_serve: Run) -> None:
    torch = pytest.importorskip("torch", reason="needs the training extra")
    sentinel = tmp_path / "executed"
    shutil.rmtree(folder / "onnx")
    torch.save({"weight": Malicious(sentinel)}, folder / "model.pt")
    done = kniv_serve("import", str(folder))
    assert not sentinel.exists()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{folder}/model.pt: holds Python objects" in done.stderr
    assert not (repository / "kniv-xsmall").exists()


def test_a_checkpoint_without_pytorch_names_the_extra(tmp_path: Path, folder: Path, kniv_serve: Run) -> None:
    shutil.rmtree(folder / "onnx")
    (folder / "model.pt").touch()
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    done = kniv_serve("import", str(folder), PYTHONPATH=str(absent))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "torch is needed: pip install 'kniv-serve[training]'" in done.stderr


def test_a_published_checkpoint_is_exported(tmp_path: Path, repository: Path, kniv_serve: Run) -> None:
    torch = pytest.importorskip("torch", reason="needs the training extra")
    tokenizer = DATA / "deberta-v3-tokenizer/tokenizer.json"
    if not tokenizer.is_file():
        pytest.skip("needs the DeBERTa tokenizer of the public data")
    from tests.training.checkpoints import published_state

    source = tmp_path / "kniv-deberta-nlp-base-en-base"
    source.mkdir()
    torch.save(published_state(), source / "model.pt")
    shutil.copy(tokenizer, source)
    (source / "metadata.json").write_text(json.dumps({"sha256": {"cascade.onnx": "0" * 64}}))
    done = kniv_serve("import", str(source / "model.pt"))
    assert done.returncode == 0, done.stderr
    assert names(repository / "kniv-base/1") == {
        "cascade.onnx", "cascade-int8.onnx", "tokenizer.json", "labels.json", "metadata.json", "SHA256SUMS",
    }  # fmt: skip
    checked = CliRunner().invoke(app, ["check", "--model-repository", str(repository)])
    assert checked.stdout.splitlines() == ["kniv-base 1 int8: ok", "kniv-base 1 fp32: ok"]
