"""Putting a version into the repository: made in a hidden folder, completed, then moved into place in one step.

The hidden folder lies in the repository itself, so that the move stays on one file system and a server that
polls never sees half a version.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp

from kniv.server.errors import NotFoundError, RepositoryError
from kniv.server.repository.external_data import refuse_external_data
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import GRAPHS, find
from kniv.server.repository.manifest import SUMS, verify
from kniv.server.repository.metadata import Metadata
from kniv.server.repository.published import LABELS, METADATA, TOKENIZER, family_labels
from kniv.server.repository.untrusted import SizeLimits, read_untrusted_object

STAGING = ".staging"
_EXISTS = "exists; choose another number with --version, or replace it with --force"
_MOST_SUBWORDS = 4096  # a trial run of this length must not exhaust the memory


def staging_root(root: Path) -> Path:
    """The hidden folder of what is not yet a version, made if need be.

    Raises:
        RepositoryError: the repository cannot be written.
    """
    folder = root / STAGING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RepositoryError(root, f"cannot be written: {error.strerror or error}; see --model-repository") from error
    return folder


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A new folder on the repository's file system, gone at the end unless it was published."""
    folder = Path(mkdtemp(dir=staging_root(root)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def complete(folder: Path, name: str, source: Mapping[str, str], limits: SizeLimits) -> None:
    """Check a folder of graphs and tokenizer and add what a version lacks: labels.json, metadata.json, SHA256SUMS.

    Args:
        folder: the staged version.
        name: the model's name, which ``metadata.json`` is given.
        source: where it came from, for ``metadata.json``.
        limits: sizes accepted.

    Raises:
        RepositoryError: a file is missing, too large, broken or refers to files elsewhere.
    """
    graphs = [folder / graph for graph in GRAPHS.values() if (folder / graph).is_file()]
    if not graphs:
        raise RepositoryError(folder, f"holds no graph: expected one of {', '.join(GRAPHS.values())}")
    if not (folder / TOKENIZER).is_file():
        raise RepositoryError(folder / TOKENIZER, "missing; a version needs it beside its graphs")
    for graph in graphs:
        refuse_external_data(graph)
    facts = _facts(folder, limits)
    settle_labels(folder, limits)
    facts |= {"name": name, "source": dict(source)}
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (folder / METADATA).write_text(text, encoding="utf-8")
    if (longest := Metadata.load(folder / METADATA).max_subwords) > _MOST_SUBWORDS:
        raise RepositoryError(folder / METADATA, f"'max_subwords' is {longest:,}; at most {_MOST_SUBWORDS:,} are taken")
    _write_sums(folder)
    verify(folder)  # metadata.json may bring checksums of its own


def settle_labels(folder: Path, limits: SizeLimits) -> Labels:
    """The label lists of a staged version, written to its labels.json if it has none: those that its metadata.json
    holds under ``labels``, or else the published family's.

    Raises:
        RepositoryError: a file is too large or broken, or a list is at fault.
    """
    path = folder / LABELS
    if not path.exists():
        facts = _facts(folder, limits)
        text = json.dumps(facts["labels"]) if "labels" in facts else family_labels().to_json()
        path.write_text(text, encoding="utf-8")
    read_untrusted_object(path, limits)
    labels = Labels.load(path)
    path.write_text(labels.to_json(), encoding="utf-8")
    return labels


def drop_checksums(folder: Path, limits: SizeLimits) -> None:
    """Take the checksums out of a staged metadata.json: they are of graphs that are about to be made anew.

    Raises:
        RepositoryError: the file is too large or broken.
    """
    if "sha256" in (facts := _facts(folder, limits)):
        del facts["sha256"]
        (folder / METADATA).write_text(json.dumps(facts), encoding="utf-8")


def _facts(folder: Path, limits: SizeLimits) -> dict[str, object]:
    """What a staged version's metadata.json says; nothing if there is none."""
    path = folder / METADATA
    return read_untrusted_object(path, limits) if path.exists() else {}


def _write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over all other files of a folder, as ``sha256sum`` reads it."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != SUMS:
            with path.open("rb") as reader:
                lines.append(f"{hashlib.file_digest(reader, 'sha256').hexdigest()}  {path.name}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def choose_version(root: Path, name: str, version: int, replace: bool) -> int:
    """The number that a new version gets: ``version``, or for 0 the one after the newest.

    Raises:
        RepositoryError: the version exists and is not to be replaced.
    """
    there = versions(root, name)
    if version in there and not replace:
        raise RepositoryError(root / name / str(version), _EXISTS)
    return version or max(there, default=0) + 1


def versions(root: Path, name: str) -> list[int]:
    """Numbers of a model's version folders, newest first.

    Raises:
        RepositoryError: the model's folder cannot be read, or leads out of the repository.
    """
    try:
        return [files.version for files in find(root, name).versions] if root.is_dir() else []
    except NotFoundError:
        return []


def publish(folder: Path, root: Path, name: str, version: int, replace: bool) -> Path:
    """Move a staged folder to its place.

    Args:
        replace: put it in the place of the version that is there; that one is moved out first, so for a moment
            there is none.

    Returns:
        The version's folder.

    Raises:
        RepositoryError: the version exists and is not to be replaced, or the repository cannot be written.
    """
    target = root / name / str(version)
    try:
        target.parent.mkdir(exist_ok=True)
        folder.chmod(target.parent.stat().st_mode & 0o777)  # mkdtemp's is for its owner alone
        if replace and target.exists():
            with staged(root) as aside:
                target.rename(aside / target.name)
                folder.rename(target)
        else:
            folder.rename(target)
    except OSError as error:
        if target.exists():
            raise RepositoryError(target, _EXISTS) from error
        raise RepositoryError(target, f"cannot be written: {error.strerror or error}") from error
    return target
