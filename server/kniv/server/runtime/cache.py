"""Rewritten graphs, kept on disk: beside the graphs that they were made of, or among the user's caches.

An entry's name holds the source's name, the key (source's content and the code that rewrites) and the entry's own
digest, so that nothing stale or damaged is ever served and everything may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from glob import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time

from kniv.server.graphs.vnni import native_levels
from kniv.server.repository.layout import CACHE

log = logging.getLogger(__name__)

_DIGITS = 24  # of a key or digest: 96 bits
_ABANDONED = 600.0  # seconds without a write after which its writer has been killed


def key_of(path: Path, digest: str = "") -> str:
    """A key of a graph's content and of everything that has a say in how it is rewritten.

    Args:
        path: the graph.
        digest: its SHA-256, if that is known.

    Raises:
        OSError: the file cannot be read.
    """
    content = digest[:_DIGITS] or _digest(path)
    return hashlib.sha256((content + _code()).encode()).hexdigest()[:_DIGITS]


def find(path: Path, key: str) -> Path | None:
    """The entry of a graph; one that is not what its name says is deleted."""
    for folder in _folders(path):
        for found in folder.glob(f"{escape(path.name)}.{key}.*"):
            with suppress(OSError):
                if found.is_symlink() or not found.is_file():
                    continue  # none of ours; a pipe would be waited for
                if _digest(found) == found.suffix[1:]:
                    return found
                log.warning("%s is damaged and is made anew", found)
                found.unlink()
    return None


def store(path: Path, key: str, write: Callable[[Path], None]) -> Path | None:
    """Keep a rewritten graph; older ones of the same file beside it, and what killed writers left, are deleted.

    Args:
        path: the graph that it was made of.
        key: as :func:`key_of` gave it.
        write: writes it to the path that it is given; called once, or not at all where no folder can be written to.

    Returns:
        The entry; None where it could not be kept.
    """
    for folder in _folders(path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _drop_abandoned(folder)
            work = TemporaryDirectory(dir=folder, prefix=".", ignore_cleanup_errors=True)
        except OSError:
            continue
        with work:
            made = Path(work.name) / "graph"
            try:
                write(made)
                entry = folder / f"{path.name}.{key}.{_digest(made)}"
                made.replace(entry)
            except OSError as error:
                log.warning("the rewritten %s cannot be kept in %s: %s", path, folder, error)
                return None
        if folder == beside(path):
            _drop_older(path, key)
        else:
            log.info("%s cannot be written to; the rewritten %s is kept in %s", path.parent, path.name, folder)
        return entry
    log.info("no folder to keep the rewritten %s in: it is made again at every start", path)
    return None


def beside(path: Path) -> Path:
    """The folder of entries beside a graph."""
    return path.parent / CACHE


def _folders(path: Path) -> Iterator[Path]:
    yield beside(path)
    with suppress(RuntimeError):  # a user without a home
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        caches = named if named.is_absolute() else Path.home() / ".cache"  # XDG: relative paths are to be ignored
        yield caches / "kniv-serve" / "graphs"


def _drop_older(path: Path, key: str) -> None:
    for found in beside(path).glob(f"{escape(path.name)}.*"):
        if found.name.split(".")[-2] != key:
            with suppress(OSError):
                found.unlink()


def _drop_abandoned(folder: Path) -> None:
    """A server that is killed while it writes, and started anew each time, must not fill the disk."""
    for work in folder.glob(".*"):
        with suppress(OSError):
            if time() - max(entry.stat().st_mtime for entry in (work, *work.iterdir())) > _ABANDONED:
                shutil.rmtree(work, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


@cache
def _code() -> str:
    """The passes' own text, and what they ask of the CPU: a change of any makes all entries stale.

    So there is no number that one could forget to raise.
    """
    found = hashlib.sha256(f"{version('onnx')} {native_levels()}".encode())
    for entry in sorted(files("kniv.server.graphs").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".py"):
            found.update(entry.read_bytes())
    return found.hexdigest()
