from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.server.repository.hub_stub import COMMIT, GRAPH, Hub, Remote, published, serving, small

from kniv.server.repository.layout import find, models
from kniv.server.repository.manifest import verify
from kniv.server.repository.published import family_labels

from .conftest import Run


def assert_nothing_installed(root: Path) -> None:
    assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == []


def test_a_published_model_becomes_a_version_at_its_commit(mini: Path, repository: Path, kniv_serve: Run) -> None:
    hub = Hub(published(mini) | {"../../evil": Remote(b"e"), "/evil": Remote(b"e"), "onnx/../evil": Remote(b"e")})
    early: list[object] = []
    hub.look = lambda: early.extend(models(repository))
    with serving(hub):
        done = kniv_serve("pull", "kniv-small", HF_ENDPOINT=hub.endpoint)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "no bars where there is no terminal"
        assert not early, "a poller would have seen a model before it was whole"
        again = kniv_serve("pull", "kniv-small", HF_ENDPOINT=hub.endpoint)
    assert [files.version for files in find(repository, "kniv-small").versions] == [1]
    assert again.returncode == 0
    assert "already there" in again.stdout
    folder = repository / "kniv-small" / "1"
    assert {path.name for path in folder.iterdir() if path.name != ".optimised"} == {
        "cascade-int8.onnx", "tokenizer.json", "labels.json", "metadata.json", "SHA256SUMS",
    }  # fmt: skip
    verify(folder)
    assert (folder / "cascade-int8.onnx").read_bytes() == hub.files[GRAPH].content
    assert (folder / "labels.json").read_text() == family_labels().to_json()
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["source"] == {"repository": hub.repository, "revision": COMMIT}
    assert (metadata["name"], metadata["max_subwords"]) == ("kniv-small", 128)
    assert len(hub.ranges(GRAPH)) == 1
    assert not [path for path, *_ in hub.asked if path.endswith(("model.pt", "README.md", "evil"))]
    assert all(f"/resolve/{COMMIT}/" in path for path, *_ in hub.asked if "/resolve/" in path)
    assert not list(repository.parent.rglob("evil"))
    listed = json.loads(kniv_serve("list", "--format", "json").stdout)
    assert listed[0]["versions"][0]["source"]["revision"] == COMMIT
    checked = kniv_serve("check")
    assert (checked.returncode, checked.stdout) == (0, "kniv-small 1 int8: ok\n")


def test_a_broken_connection_is_taken_up_where_it_broke(mini: Path, repository: Path, kniv_serve: Run) -> None:
    hub = Hub(published(mini))
    hub.files[GRAPH].cuts = [9_000_000, 3_000_000, 2_000_000]
    with serving(hub):
        cut = kniv_serve("pull", "kniv-small", "--attempts", "1", HF_ENDPOINT=hub.endpoint)
        assert cut.returncode == 1
        assert "are kept" in cut.stderr
        assert_nothing_installed(repository)
        hub.files[GRAPH].busy = 1
        done = kniv_serve("pull", "kniv-small", HF_ENDPOINT=hub.endpoint)
        assert done.returncode == 0, done.stderr
    assert (repository / "kniv-small/1/cascade-int8.onnx").read_bytes() == hub.files[GRAPH].content
    starts = [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in hub.ranges(GRAPH)]
    assert starts == [0, 9_000_000, 9_000_000, 12_000_000, 14_000_000]


def test_a_hub_that_stalls_is_given_up(repository: Path, kniv_serve: Run) -> None:
    hub = Hub(small())
    hub.files[GRAPH].stalls = [1000, 0]
    with serving(hub):
        done = kniv_serve(
            "pull", "kniv-small", "--attempts", "2", HF_ENDPOINT=hub.endpoint, HF_HUB_DOWNLOAD_TIMEOUT="1"
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (
        "sent nothing for 1 s (HF_HUB_DOWNLOAD_TIMEOUT); given up after 2 attempts with 1,000 of 1,048,576 bytes"
        in done.stderr
    )
    assert hub.ranges(GRAPH) == ["", "bytes=1000-"]
    assert_nothing_installed(repository)


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (("kniv-small",), {"HF_TOKEN": "hf_wrong"}, "set HF_TOKEN"),
        (("kniv-small",), {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        (("kniv-small",), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot reach http://127.0.0.1:9"),
        (("kniv-small", "--version", "1"), {"KNIV_MODEL_REPOSITORY": "/proc/nowhere"}, "cannot be written"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(
    repository: Path, kniv_serve: Run, arguments: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    with serving(Hub(small(), token="hf_right")) as hub:
        done = kniv_serve("pull", *arguments, **{"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_right", **environment})
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hf_" not in done.stderr
    assert_nothing_installed(repository)


def test_the_token_goes_to_the_hub_alone(mini: Path, repository: Path, kniv_serve: Run) -> None:
    with serving(Hub(published(mini), token="hf_right")) as hub:
        done = kniv_serve("pull", "kniv-small", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_right")
    assert done.returncode == 0, done.stderr
    assert "hf_right" not in done.stdout + done.stderr
    shown = {path.startswith("/cdn/"): authorization for path, _, authorization in hub.asked}
    assert shown == {False: "Bearer hf_right", True: ""}, "the token is not for the host that keeps the bytes"
    assert "hf_right" not in (repository / "kniv-small/1/metadata.json").read_text()
