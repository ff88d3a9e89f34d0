"""Rewritten graphs, kept on disk: beside the graphs that they were made of, or among the user's caches.

An entry is a folder: the graph, and its large weights in a file that sessions map into memory. Its name holds the
source's name, the key (source's content and the code that rewrites) and the digest of its files, so that nothing stale
or damaged is ever served and everything may be deleted at any time. No file is ever changed once it is an entry's.
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

from kniv.server.repository.layout import CACHE

log = logging.getLogger(__name__)

GRAPH = "graph"  # in an entry's folder; no bytes say that the source runs as it is

_DIGITS = 24  # of a key or digest: 96 bits
_ABANDONED = 600.0  # seconds without a write after which its writer has been killed
_MOST_BYTES = 8 << 30  # of all entries among the user's caches, where nothing else ever deletes any


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
    """The graph of an entry; an entry that is not what its name says is deleted."""
    for folder in _folders(path):
        for found in folder.glob(f"{escape(path.name)}.{key}.*"):
            with suppress(OSError):
                if found.is_symlink() or not found.is_dir():
                    continue  # none of ours
                if _digest_of(found) == found.suffix[1:]:
                    if folder != beside(path):
                        _touch(found)
                    return found / GRAPH
                log.warning("%s is damaged and is made anew", found)
                shutil.rmtree(found)
    return None


def store(path: Path, key: str, write: Callable[[Path], None]) -> Path | None:
    """Keep a rewritten graph; older ones of the same file beside it, and what killed writers left, are deleted.

    Args:
        path: the graph that it was made of.
        key: as :func:`key_of` gave it.
        write: writes it to the path that it is given, and what belongs to it beside that; called once, or not at all
            where no folder can be written to.

    Returns:
        The entry's graph; None where it could not be kept.
    """
    for folder in _folders(path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _drop_abandoned(folder)
            work = TemporaryDirectory(dir=folder, prefix=".", ignore_cleanup_errors=True)
        except OSError:
            continue
        with work:
            made = Path(work.name) / "entry"
            try:
                made.mkdir()
                write(made / GRAPH)
                entry = folder / f"{path.name}.{key}.{_digest_of(made)}"
                _place(made, entry)
            except OSError as error:
                log.warning("the rewritten %s cannot be kept in %s: %s", path, folder, error)
                return None
        if folder == beside(path):
            _drop_older(path, key)
        else:
            log.info("%s cannot be written to; the rewritten %s is kept in %s", path.parent, path.name, folder)
            _drop_unused(folder, entry)
        return entry / GRAPH
    log.info("no folder to keep the rewritten %s in: it is made again at every start", path)
    return None


def drop(path: Path, key: str) -> None:
    """Delete the entries of a graph under a key, where they can be."""
    for folder in _folders(path):
        for found in folder.glob(f"{escape(path.name)}.{key}.*"):
            _delete(found)


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
            _delete(found)


def _touch(entry: Path) -> None:
    """Note the time of an entry's last use."""
    with suppress(OSError):  # it may be another user's
        os.utime(entry)


def _drop_unused(folder: Path, kept: Path) -> None:
    """Delete what has not been used for the longest time, until the rest is no more than may be."""
    used = []
    for entry in folder.glob("[!.]*"):
        with suppress(OSError):  # another server has deleted it meanwhile
            size = sum(found.stat().st_size for found in entry.iterdir()) if entry.is_dir() else entry.stat().st_size
            used.append((entry == kept, entry.stat().st_mtime, size, entry))
    total = 0
    for newest, _, size, entry in sorted(used, reverse=True):
        total += size
        if total > _MOST_BYTES and not newest:
            _delete(entry)


def _delete(found: Path) -> None:
    with suppress(OSError):
        if found.is_symlink() or not found.is_dir():
            found.unlink()
        else:
            shutil.rmtree(found)


def _place(made: Path, entry: Path) -> None:
    """Move a folder to its name, unless another process has just put the same there."""
    try:
        made.replace(entry)
    except OSError:
        if not entry.is_dir() or _digest_of(entry) != entry.suffix[1:]:
            raise


def _drop_abandoned(folder: Path) -> None:
    """A server that is killed while it writes, and started anew each time, must not fill the disk."""
    for work in folder.glob(".*"):
        with suppress(OSError):
            if time() - max(entry.stat().st_mtime for entry in (work, *work.rglob("*"))) > _ABANDONED:
                shutil.rmtree(work, ignore_errors=True)


def _digest_of(entry: Path) -> str:
    """Digest of an entry's files, by name and content; "" where there is anything else, a pipe say."""
    inside = sorted(entry.iterdir())
    if any(found.is_symlink() or not found.is_file() for found in inside):
        return ""
    told = "".join(f"{found.name} {_digest(found)}\n" for found in inside)
    return hashlib.sha256(told.encode()).hexdigest()[:_DIGITS]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


@cache
def _code() -> str:
    """The passes' own text: a change of it makes all entries stale.

    So there is no number that one could forget to raise.
    """
    found = hashlib.sha256(version("onnx").encode())
    for entry in sorted(files("kniv.server.graphs").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".py"):
            found.update(entry.read_bytes())
    return found.hexdigest()
