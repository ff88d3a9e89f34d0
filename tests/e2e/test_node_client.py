"""A client of another language, made from the protos alone, against the real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NODE = Path(__file__).parent / "node"
PROTOS = Path(__file__).parents[2] / "protos"
TEXTS = {
    "t1": "Hello 🙂, can you book a table?",
    "t2": "Sure. For how many people?",
    "t3": "Four, please. 👩‍👩‍👧 Thanks!",
    "d1": "The 🙂 was sent to Ada Lovelace. She smiled.\nThen she left.\n",
}
SPEAKERS = {"t1": "ada", "t2": "bob", "t3": "ada", "d1": ""}


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The client's command line, but for its target."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "client.mjs"):
        shutil.copy(NODE / name, folder)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if installed.returncode != 0:
        pytest.skip(f"npm install failed: {installed.stderr.strip()[-500:]}")
    return [node, str(folder / "client.mjs"), "--protos", str(PROTOS)]


@pytest.fixture(scope="module")
def responses(node_client: list[str], server: Any) -> list[dict[str, Any]]:
    """What the server answered, in the order of its coming."""
    command = [*node_client, "--target", server.target]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=180)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def item_id(message: dict[str, Any]) -> str:
    return message["item"][message["item"]["item"]]


def utf16(text: str, start: int, end: int) -> str:
    """What JavaScript's text.slice(start, end) gives."""
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


def test_the_configuration_is_answered_first_and_once(responses):
    assert [place for place, response in enumerate(responses) if response["message"] == "configured"] == [0]
    assert responses[0]["configured"]["model"]["name"]


def test_every_item_is_completed_in_order_after_its_sentences(responses):
    rest = [response[response["message"]] for response in responses[1:]]
    assert {response["message"] for response in responses[1:]} == {"sentence", "completion"}
    done = [message for message in rest if "outcome" in message]
    assert [(item_id(message), message["outcome"]) for message in done] == [
        (name, "OUTCOME_COMPLETE") for name in TEXTS
    ]
    for message in done:
        name = item_id(message)
        sentences = [place for place, other in enumerate(rest) if "annotation" in other and item_id(other) == name]
        assert [rest[place]["annotation"]["index"] for place in sentences] == list(range(message["sentenceCount"]))
        assert sentences
        assert max(sentences) < rest.index(message)


def test_offsets_count_utf16_code_units(responses):
    for response in responses:
        if response["message"] != "sentence":
            continue
        found, name = response["sentence"]["annotation"], item_id(response["sentence"])
        assert response["sentence"]["speaker"] == SPEAKERS[name]
        for part in [found, *found["tokens"], *found["entities"]]:
            assert utf16(TEXTS[name], part["span"]["start"], part["span"]["end"]) == part["text"]


def test_an_unknown_server_is_an_error(node_client):
    command = [*node_client, "--target", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 1
    assert done.stderr.startswith("UNAVAILABLE: ")
