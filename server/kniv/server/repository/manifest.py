"""Whether the files of a folder have changed, and whether they are what their checksums say."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import read_object
from kniv.server.repository.layout import CACHE, stays_inside

SUMS = "SHA256SUMS"
_METADATA = "metadata.json"
_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_DIGEST = re.compile("[0-9a-fA-F]{64}")
_MOST_SUMS = 1 << 20
_MOST_FILES, _DEEPEST = 10_000, 16


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a folder held at a moment, by names, sizes, inodes and times, not by content.

    Two are equal if nothing changed between them. Files that links lead to count, folders that links lead to do not,
    nor does what the server itself keeps beside graphs.
    """

    entries: frozenset[tuple[str | int, ...]]

    @classmethod
    def of(cls, folder: Path) -> Snapshot:
        """Look at a folder. One that is not there holds nothing.

        Raises:
            RepositoryError: it holds too many files, or folders in folders, to be a model.
        """
        entries: set[tuple[str | int, ...]] = set()
        for entry in _walk(folder, "", 0):
            if len(entries) == _MOST_FILES:
                raise RepositoryError(folder, f"holds more than {_MOST_FILES:,} files; keep only a model's own in it")
            entries.add(entry)
        return cls(frozenset(entries))


def verify(folder: Path) -> dict[str, str]:
    """Compare files with their checksums: those of ``SHA256SUMS``, and those of ``metadata.json`` that are there.

    Args:
        folder: a version's. Without either list nothing is compared.

    Returns:
        SHA-256 of the files that were compared, by name.

    Raises:
        RepositoryError: a file is not what its checksum says, is missing though ``SHA256SUMS`` lists it, or a list
            is malformed or names a file outside of the folder.
    """
    compared: dict[str, str] = {}
    for name, (expected, source) in _listed(folder).items():
        path = folder / name
        try:
            # Opening a pipe would wait for a writer.
            if not stat.S_ISREG(path.stat().st_mode):
                raise RepositoryError(path, f"is no regular file, though {source} lists it")
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            if source == SUMS:
                raise RepositoryError(path, f"is missing, though {source} lists it; copy the version again") from error
            continue
        except OSError as error:
            raise RepositoryError(path, f"cannot be read: {error}") from error
        if found != expected:
            problem = f"has SHA-256 {found[:12]}…, but {source} says {expected[:12]}…; copy the version again"
            raise RepositoryError(path, problem)
        compared[name] = found
    return compared


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str | int, ...]]:
    if depth > _DEEPEST:
        raise RepositoryError(folder, "is nested too deeply for a model")
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        # Gone, or not to be read: that too is a state that can change.
        yield (prefix, error.errno or 0)
        return
    for entry in entries:
        if entry.name == CACHE:
            continue
        name = prefix + entry.name
        try:
            own = entry.stat(follow_symlinks=False)
            target = _target(entry) if stat.S_ISLNK(own.st_mode) else own
        except OSError:
            continue  # gone since
        if stat.S_ISDIR(own.st_mode):
            # Not its times: its entries tell of all changes but those of what is passed over.
            yield (name, own.st_ino, own.st_mode)
            yield from _walk(folder / entry.name, f"{name}/", depth + 1)
            continue
        # The time of the last change of its data or its rights tells of a file that was given back its old time.
        yield (name, own.st_ino, target.st_mode, target.st_size, target.st_mtime_ns, target.st_ino, target.st_ctime_ns)


def _target(link: os.DirEntry[str]) -> os.stat_result:
    """What a link leads to; the link itself if that is nothing."""
    try:
        return link.stat()
    except OSError:
        return link.stat(follow_symlinks=False)


def _listed(folder: Path) -> dict[str, tuple[str, str]]:
    """Checksums by file, with the list that each is from."""
    listed: dict[str, tuple[str, str]] = {}
    for source, pairs in ((SUMS, _sums(folder / SUMS)), (_METADATA, _sums_of_metadata(folder / _METADATA))):
        for name, digest in pairs:
            if not stays_inside(name):
                raise RepositoryError(folder / source, f"lists '{name[:100]}', which is not a file in the folder")
            known = listed.setdefault(name, (digest.lower(), source))
            if known[0] != digest.lower():
                raise RepositoryError(folder / source, f"has a checksum of {name} that differs from that in {known[1]}")
    return listed


def _sums(path: Path) -> Iterator[tuple[str, str]]:
    """Lines of a list as coreutils' ``sha256sum`` writes it."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_SUMS:
            raise RepositoryError(path, f"is no regular file of at most {_MOST_SUMS:,} bytes")
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(path, f"cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise RepositoryError(path, f"line {number}: must be a checksum, two spaces and a file's name")
        escaped, digest, name = match.groups()
        if escaped:
            name = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)
        yield name, digest


def _sums_of_metadata(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    sums = read_object(path).get("sha256", {})
    if not isinstance(sums, dict):
        raise RepositoryError(path, "'sha256' must be an object of file names and checksums")
    for name, digest in sums.items():
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise RepositoryError(path, f"'sha256' must have 64 hexadecimal digits for '{name[:100]}'")
        yield name, digest
