from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kniv.server.cli import app


def invoke(command: str, repository: Path, *arguments: str) -> tuple[int, list[str]]:
    """Status and lines of the command, run in this process; the error's line if there is no other."""
    done = CliRunner().invoke(app, [command, *arguments, "--model-repository", str(repository)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, (done.stdout or done.stderr).splitlines()


@pytest.fixture
def repository(tmp_path: Path, tiny: Path) -> Path:
    """Two versions of a tiny cascade, FP32 and INT8."""
    for version in ("1", "2"):
        shutil.copytree(tiny, tmp_path / "repository/tiny" / version)
        path = tmp_path / "repository/tiny" / version / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": {}}))
    return tmp_path / "repository"


def test_what_is_sound_is_ok(repository: Path) -> None:
    shutil.copy(repository / "tiny/2/cascade.onnx", repository / "tiny/2/cascade-fp16.onnx")
    (repository / "kniv-small").mkdir()
    (repository / "kniv-small/config.pbtxt").touch()
    status, lines = invoke("check", repository)
    assert lines == [
        "kniv-small: has no version yet; kniv-serve pull kniv-small brings one",
        "tiny 2 int8: ok",
        "tiny 2 fp32: ok",
        "tiny 2 fp16: ok, but not served on this device",
        "tiny 1 int8: ok",
        "tiny 1 fp32: ok",
    ]
    assert status == 0
    assert invoke("check", repository, "tiny")[0] == 0
    assert invoke("check", repository, "kniv-small")[0] == 1, "asked for by name, it should be there"


def damage(repository: Path, fault: str) -> str:
    """Break version 2; what its line then says."""
    folder = repository / "tiny/2"
    match fault:
        case "truncated":
            (folder / "cascade.onnx").write_bytes((folder / "cascade.onnx").read_bytes()[:-500])
            return "cascade.onnx"
        case "labels":
            labels = json.loads((folder / "labels.json").read_text())
            (folder / "labels.json").write_text(json.dumps(labels | {"cls": labels["cls"][1:]}))
            return "output cls_logits"
        case "tokenizer":
            (folder / "tokenizer.json").unlink()
            return "tokenizer.json: missing"
        case "sums":
            (folder / "SHA256SUMS").write_text(f"{'0' * 64}  cascade.onnx\n")
            return "SHA256SUMS says"
        case "unserved":
            (folder / "cascade-fp16.onnx").write_bytes(b"half")
            return "cascade-fp16.onnx: not a graph"
    raise AssertionError(fault)


@pytest.mark.parametrize("fault", ["truncated", "labels", "tokenizer", "sums", "unserved"])
def test_what_is_wrong_is_told_and_hides_nothing_else(repository: Path, fault: str) -> None:
    told = damage(repository, fault)
    status, lines = invoke("check", repository)
    assert status == 1
    assert [line for line in lines if told in line and line.startswith("tiny 2")], lines
    assert lines[-2:] == ["tiny 1 int8: ok", "tiny 1 fp32: ok"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('name: "other"', "name"),
        ("unheard_of: 1", "unheard_of"),
        ("version_policy { specific { versions: 9 } }", "version 9"),
        ("instance_group { kind: KIND_GPU }", "cuda"),
    ],
)
def test_a_configuration_at_fault_is_told(repository: Path, config: str, told: str) -> None:
    (repository / "tiny/config.pbtxt").write_text(config)
    status, lines = invoke("check", repository)
    assert status == 1
    assert told in lines[0]


def test_no_model_is_told(tmp_path: Path) -> None:
    assert invoke("check", tmp_path)[0] == 1
    assert invoke("check", tmp_path / "nowhere")[0] == 1
    assert invoke("check", tmp_path, "absent")[0] == 1
    assert invoke("list", tmp_path / "nowhere")[0] == 1


def test_list_tells_versions_variants_and_what_is_served(repository: Path) -> None:
    path = repository / "tiny/1/metadata.json"
    source = {"repository": "someone/tiny", "revision": "a" * 40}
    path.write_text(json.dumps({"source": source}))
    (repository / "tiny/2/metadata.json").write_text("broken")
    (repository / "kniv-small").mkdir()
    (repository / "kniv-small/config.pbtxt").touch()
    (repository / "wrong/1").mkdir(parents=True)
    (repository / "wrong/config.pbtxt").write_text("unheard_of: 1")
    status, lines = invoke("list", repository, "--format", "json")
    assert status == 0
    small, tiny, wrong = json.loads("\n".join(lines))
    size = (repository / "tiny/1/cascade.onnx").stat().st_size
    assert [(one["version"], one["served"]) for one in tiny["versions"]] == [(2, True), (1, False)]
    assert tiny["versions"][1]["variants"]["fp32"] == size
    assert [one["source"] for one in tiny["versions"]] == [{}, source]
    assert (small["versions"], small["problem"]) == ([], "")
    assert "unheard_of" in wrong["problem"]
    status, lines = invoke("list", repository)
    assert status == 0
    assert "kniv-serve pull kniv-small" in lines[1]
    assert lines[2].split()[:3] == ["tiny", "2", "yes"]
    assert "someone/tiny@aaaaaaaaaaaa" in lines[3]
