"""A hub on the loopback: as much of its HTTP interface as a pull meets, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GRAPH = "onnx/cascade-int8.onnx"
BLOCK = 1 << 16


@dataclass
class Remote:
    """A file of the hub, and what it tells or does wrong.

    Attributes:
        lfs: kept by Git LFS, so served by redirect and listed with its SHA-256.
        stated_size, stated_sha256: what the listing claims, if not the truth.
        cuts: after how many bytes each answer's connection breaks, one entry an answer; answers after them are whole.
        stalls: like ``cuts``, but the connection stays open and silent.
        endless: sends zeros without a Content-Length and without end.
        busy: how many answers are 503 first.
    """

    content: bytes
    lfs: bool = True
    stated_size: int | None = None
    stated_sha256: str | None = None
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    endless: bool = False
    busy: int = 0


@dataclass
class Hub:
    """What the hub holds and what it was asked.

    Attributes:
        files: of the one repository, by name.
        repository, branches: the repository's name and the commit of each of its branches.
        token: what a caller must show; empty for a public repository.
        asked: path, Range and Authorization of each request.
        look: called at each request.
        endpoint, storage: where it answers, and where it sends those who want a file of Git LFS: another host.
    """

    files: dict[str, Remote]
    repository: str = "dragonscale-ai/kniv-deberta-nlp-base-en-small"
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    look: Callable[[], None] = lambda: None
    endpoint: str = ""
    storage: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def ranges(self, name: str) -> list[str]:
        """Range of each request for a file's bytes, in order."""
        place = "/cdn/" if self.files[name].lfs else "/resolve/"
        return [asked for path, asked, _ in self.asked if place in path and path.endswith("/" + name)]

    def commit(self, revision: str) -> str | None:
        """The commit that a revision stands for."""
        return revision if revision in self.branches.values() else self.branches.get(revision)

    def listing(self, commit: str) -> dict[str, Any]:
        """The answer to a question for a revision's files."""
        siblings = []
        for name, file in self.files.items():
            size = len(file.content) if file.stated_size is None else file.stated_size
            blob = hashlib.sha1(b"blob %d\0" % len(file.content) + file.content).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "blobId": blob, "size": size}
            if file.lfs:
                digest = file.stated_sha256 or hashlib.sha256(file.content).hexdigest()
                entry["lfs"] = {"size": size, "sha256": digest, "pointerSize": 134}
            siblings.append(entry)
        return {"id": self.repository, "modelId": self.repository, "sha": commit, "siblings": siblings}


def published(mini: Path) -> dict[str, Remote]:
    """The embedded model, as the family's repositories lay theirs out."""
    metadata = json.loads((mini / "metadata.json").read_text())
    return {
        GRAPH: Remote((mini / "cascade-int8.onnx").read_bytes()),
        "tokenizer.json": Remote((mini / "tokenizer.json").read_bytes(), lfs=False),
        "metadata.json": Remote(json.dumps(metadata).encode(), lfs=False),
        "model.pt": Remote(b"never asked for"),
        "README.md": Remote(b"never asked for", lfs=False),
    }


def small() -> dict[str, Remote]:
    """Files that no graph is among: for what goes wrong before anyone looks into them."""
    return {GRAPH: Remote(bytes(range(256)) * 4096), "tokenizer.json": Remote(b"{}", lfs=False)}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, answering at its ``endpoint``."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        hub.storage = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_args: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        shown = self.headers.get("Authorization", "")
        self.hub.asked.append((path, self.headers.get("Range", ""), shown))
        self.hub.look()
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            self._content("/".join(parts[2:]))
            return
        api = parts[:2] == ["api", "models"]
        named = "/".join(parts[2:4] if api else parts[:2])
        if self.hub.token and shown != f"Bearer {self.hub.token}":
            if shown:
                self._refuse(401, "", "Invalid credentials in Authorization header")
            else:
                self._refuse(401, "RepoNotFound")
        elif named != self.hub.repository:
            self._refuse(404, "RepoNotFound")
        elif (commit := self.hub.commit("/".join(parts[5:]) if api else parts[3])) is None:
            self._refuse(404, "RevisionNotFound")
        elif api:
            self._answer(200, json.dumps(self.hub.listing(commit)).encode(), {"Content-Type": "application/json"})
        else:
            self._resolve("/".join(parts[4:]), commit)

    def _resolve(self, name: str, commit: str) -> None:
        file = self.hub.files.get(name)
        if file is None:
            self._refuse(404, "EntryNotFound")
        elif file.lfs:
            digest = hashlib.sha256(file.content).hexdigest()
            headers = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(file.content))}
            self._answer(302, b"", headers | {"Location": f"{self.hub.storage}/cdn/{digest}/{name}"})
        else:
            self._content(name)

    def _content(self, name: str) -> None:
        file = self.hub.files[name]
        if file.busy:
            file.busy -= 1
            self._answer(503, b"", {})
            return
        if file.endless:
            self._send_endless()
            return
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
        size = len(file.content)
        headers = {"ETag": f'"{hashlib.sha256(file.content).hexdigest()}"'}
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        limit, silent = size, False
        if file.cuts:
            limit = start + file.cuts.pop(0)
        elif file.stalls:
            limit, silent = start + file.stalls.pop(0), True
        self._head(206 if "Range" in self.headers else 200, headers | {"Content-Length": str(size - start)})
        with suppress(ConnectionError):  # a caller that was told another size does not wait for the end
            self.wfile.write(file.content[start:limit])
            self.wfile.flush()
        if silent:
            self.hub.closing.wait(30)
        if limit < size:
            self.close_connection = True

    def _send_endless(self) -> None:
        self._head(200, {"Connection": "close"})
        self.close_connection = True
        with suppress(ConnectionError):  # the caller has had enough, as it should
            while not self.hub.closing.is_set():
                self.wfile.write(bytes(BLOCK))

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message or code})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, headers | {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
