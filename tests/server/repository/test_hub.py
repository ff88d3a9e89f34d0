from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from tests.server.repository.hub_stub import COMMIT, GRAPH, Hub, Remote, published, serving, small

from kniv.server.commands.trial import try_version
from kniv.server.errors import InvalidRequestError, RepositoryError, ServeError
from kniv.server.repository.hub.errors import HubError
from kniv.server.repository.hub.pull import Pull, Pulled, pull
from kniv.server.repository.published import FAMILY, family_labels, hub_repository, local_name
from kniv.server.repository.untrusted import SizeLimits


class Silent:
    """Progress that nobody watches."""

    def file(self, _name: str, _size: int) -> Callable[[int], None]:
        return lambda _there: None


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Hub], None]]:
    """Makes a stub the hub of this process, whatever hub its environment names."""
    opened = []

    def at(hub: Hub) -> None:
        context = serving(hub)
        endpoint = context.__enter__().endpoint
        opened.append(context)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield at
    for context in opened:
        context.__exit__(None, None, None)
    huggingface_hub.close_session()


def pulled(root: Path, wanted: Pull, check: Callable[[Path], None] = lambda folder: None) -> Pulled:
    return pull(root, wanted, check, Silent())


def source(folder: Path) -> dict[str, str]:
    return dict(json.loads((folder / "metadata.json").read_text())["source"])


def assert_nothing_installed(root: Path) -> None:
    assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == []


def without_look(files: dict[str, Remote], monkeypatch: pytest.MonkeyPatch) -> dict[str, Remote]:
    """The files, with nobody looking into the graph: for where its bytes do not matter."""
    monkeypatch.setattr("kniv.server.repository.install.refuse_external_data", lambda _path: None)
    return files


@pytest.mark.parametrize("name", FAMILY)
def test_the_family_has_short_names(name: str) -> None:
    assert local_name(hub_repository(name)) == name
    assert hub_repository(FAMILY[name]) == FAMILY[name]


@pytest.mark.parametrize(
    "name", ["", "kniv-tiny", "a/b/c", "../x", "a/..", "a/.x", "/x", "x/", "a/b c", "a/" + "b" * 97]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="kniv-xsmall"):
        hub_repository(name)


def test_a_newer_commit_becomes_the_next_version_and_a_pinned_one_stays_itself(
    tmp_path: Path, start: Callable[[Hub], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = "f" * 40
    files = without_look(small(), monkeypatch)
    hub = Hub(files, repository="someone/my.model", branches={"main": newer, "v1": COMMIT})
    start(hub)
    found = [pulled(tmp_path, Pull(hub.repository, revision)) for revision in (COMMIT, "main", "v1", newer)]
    assert [(one.folder.name, one.commit, one.new) for one in found] == [
        ("1", COMMIT, True), ("2", newer, True), ("1", COMMIT, False), ("2", newer, False),
    ]  # fmt: skip
    with pytest.raises(RepositoryError, match="--force"):
        pulled(tmp_path, Pull(hub.repository, "main", version=1))
    assert source(tmp_path / "my.model/1")["revision"] == COMMIT
    forced = pulled(tmp_path, Pull(hub.repository, "main", version=1, force=True))
    assert (forced.folder.name, source(forced.folder)["revision"]) == ("1", newer)
    assert [path.name for path in (tmp_path / ".staging").iterdir()] == ["lock"]


def test_more_variants_of_the_same_commit_become_a_version_of_their_own(
    tmp_path: Path, start: Callable[[Hub], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = without_look(small() | {"onnx/cascade.onnx": Remote(b"fp32")}, monkeypatch)
    start(Hub(files))
    assert pulled(tmp_path, Pull("kniv-small", variants=("int8",))).folder.name == "1"
    assert pulled(tmp_path, Pull("kniv-small")).folder.name == "2"
    assert not pulled(tmp_path, Pull("kniv-small", variants=("fp32",))).new
    names = [sorted(path.name for path in (tmp_path / "kniv-small" / v).glob("*.onnx")) for v in "12"]
    assert names == [["cascade-int8.onnx"], ["cascade-int8.onnx", "cascade.onnx"]]


LIES = [
    ({"stated_sha256": "0" * 64}, {}, "checksum"),
    ({"stated_size": 1000}, {}, "states 1,000 bytes but sends 1,048,576"),
    ({"stated_size": 2_000_000}, {}, "states 2,000,000 bytes but sends 1,048,576"),
    ({"endless": True}, {}, "sends more"),
    ({"stated_size": 5 << 30}, {}, "--max-file-bytes"),
    ({}, {"limits": SizeLimits(weights=1000)}, "--max-file-bytes"),
    ({"stated_sha256": "../../x"}, {}, "states no checksum"),
    ({"stated_size": -1}, {}, "states no size"),
    ({}, {"variants": ("fp16",)}, "published are: int8"),
    ({}, {"revision": "v9"}, "no revision 'v9'"),
]


@pytest.mark.parametrize(("fault", "wanted", "told"), LIES)
def test_a_hub_that_lies_leaves_nothing(
    tmp_path: Path, start: Callable[[Hub], None], fault: dict[str, object], wanted: dict[str, object], told: str
) -> None:
    hub = Hub(small())
    for name, value in fault.items():
        setattr(hub.files[GRAPH], name, value)
    start(hub)
    with pytest.raises(HubError, match=told):
        pulled(tmp_path, Pull("kniv-small", **wanted))  # type: ignore[arg-type]
    assert_nothing_installed(tmp_path)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("name", "token", "told"),
    [
        ("kniv-large", "hf_right", "no such repository"),
        ("kniv-small", "", "set HF_TOKEN"),
        ("kniv-small", "hf_wrong", "set HF_TOKEN"),
        ("kniv-small", "hf_wröng", "HF_TOKEN has characters"),
        ("kniv-small", "hf_wr\x0bng", "HF_TOKEN has characters"),
    ],
)
def test_what_may_not_be_had_is_told_without_the_token(
    tmp_path: Path, start: Callable[[Hub], None], monkeypatch: pytest.MonkeyPatch, name: str, token: str, told: str
) -> None:
    start(Hub(small(), token="hf_right"))
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=told) as raised:
        pulled(tmp_path, Pull(name))
    assert "hf_" not in str(raised.value)
    assert_nothing_installed(tmp_path)


def test_an_endpoint_that_is_no_hub_is_told_of(tmp_path: Path, start: Callable[[Hub], None]) -> None:
    hub = Hub(small())
    hub.listing = lambda _commit: ["no", "hub"]  # type: ignore[assignment, method-assign, return-value]
    start(hub)
    with pytest.raises(HubError, match="does not answer as a hub does"):
        pulled(tmp_path, Pull("kniv-small"))


def test_a_commit_is_what_it_was_asked_for(tmp_path: Path, start: Callable[[Hub], None]) -> None:
    start(Hub(small(), branches={"a" * 40: "b" * 40}))
    with pytest.raises(HubError, match=f"commit {'b' * 40} where {'a' * 40}"):
        pulled(tmp_path, Pull("kniv-small", "a" * 40))


@pytest.mark.parametrize("missing", ["tokenizer.json", GRAPH])
def test_a_repository_that_lacks_a_file_is_told_of(tmp_path: Path, start: Callable[[Hub], None], missing: str) -> None:
    hub = Hub(small() | {"model.pt": Remote(b"weights")})
    del hub.files[missing]
    start(hub)
    with pytest.raises(HubError, match="kniv-serve import" if missing == GRAPH else "no tokenizer"):
        pulled(tmp_path, Pull("kniv-small"))


def test_bytes_that_went_bad_while_they_waited_are_noticed(
    tmp_path: Path, start: Callable[[Hub], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(without_look(small(), monkeypatch))
    hub.files[GRAPH].cuts = [500_000]
    start(hub)
    with pytest.raises(HubError, match="are kept"):
        pulled(tmp_path, Pull("kniv-small", attempts=1))
    (part,) = tmp_path.rglob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(HubError, match="checksum"):
        pulled(tmp_path, Pull("kniv-small"))
    assert pulled(tmp_path, Pull("kniv-small")).new


def test_one_pull_at_a_time(tmp_path: Path, start: Callable[[Hub], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def second(_folder: Path) -> None:
        with pytest.raises(RepositoryError, match="another pull"):
            pulled(tmp_path, Pull("kniv-small", version=7))

    start(Hub(without_look(small(), monkeypatch)))
    assert pulled(tmp_path, Pull("kniv-small"), second).new


@pytest.mark.parametrize("broken", ["graph", "tokenizer", "metadata", "labels", "sums", "limits"])
def test_a_model_that_cannot_be_served_is_not_installed(
    tmp_path: Path, mini: Path, start: Callable[[Hub], None], broken: str
) -> None:
    files = published(mini)
    metadata = files["metadata.json"]
    facts = json.loads(metadata.content)
    match broken:
        case "graph":
            files[GRAPH].content = files[GRAPH].content[:-1000]
        case "tokenizer":
            files["tokenizer.json"].content = b"{}"
        case "metadata":
            metadata.content = b"[" * 100_000
        case "labels":
            labels = json.loads(family_labels().to_json())
            metadata.content = json.dumps(facts | {"labels": labels | {"cls": ["inform"]}}).encode()
        case "sums":
            metadata.content = json.dumps(facts | {"sha256": {"cascade-int8.onnx": "0" * 64}}).encode()
        case "limits":
            metadata.content = json.dumps(facts | {"max_subwords": 10**9}).encode()
    start(Hub(files))
    with pytest.raises(ServeError):
        pulled(tmp_path, Pull("kniv-small"), try_version)
    assert_nothing_installed(tmp_path)


def test_labels_come_from_the_metadata_where_it_has_them(
    tmp_path: Path, start: Callable[[Hub], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = json.loads(family_labels().to_json())
    labels["cls"].reverse()
    files = without_look(small(), monkeypatch)
    files["metadata.json"] = Remote(json.dumps({"labels": labels}).encode(), lfs=False)
    start(Hub(files))
    folder = pulled(tmp_path, Pull("kniv-small")).folder
    assert json.loads((folder / "labels.json").read_text()) == labels
