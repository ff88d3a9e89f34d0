"""A version folder of the repository, made of a published model's files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from kniv.server.errors import RepositoryError
from kniv.server.repository.hub.download import Place, download
from kniv.server.repository.hub.errors import HubError
from kniv.server.repository.hub.listing import Listing, RemoteFile, checked, list_files
from kniv.server.repository.install import choose_version, complete, publish, staging_root, versions
from kniv.server.repository.layout import GRAPHS
from kniv.server.repository.published import (
    CHECKPOINT,
    GRAPH_FILES,
    LABELS,
    METADATA,
    SHARED,
    TOKENIZER,
    hub_repository,
    local_name,
)
from kniv.server.repository.untrusted import SizeLimits, read_untrusted_object


class Progress(Protocol):
    """Told how a pull goes on."""

    def file(self, name: str, size: int) -> Callable[[int], None]:
        """A file of ``size`` bytes begins; the answer is called with the number of them that are there."""
        ...


@dataclass(frozen=True, slots=True)
class Pull:
    """What to pull.

    Attributes:
        name: one of the family, or ``organisation/name``.
        revision: branch, tag or commit.
        variants: those to take; empty for all that are published.
        version: the version to make; 0 for the next free number.
        force: replace a version that is there.
        attempts: failed attempts in a row at a file before giving up.
        limits: sizes accepted.
    """

    name: str
    revision: str = "main"
    variants: tuple[str, ...] = ()
    version: int = 0
    force: bool = False
    attempts: int = 5
    limits: SizeLimits = field(default_factory=SizeLimits)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull left.

    Attributes:
        folder: the version's folder.
        commit: the hub's commit that it is of.
        new: whether it was made now; else it was there already.
    """

    folder: Path
    commit: str
    new: bool


def pull(root: Path, wanted: Pull, check: Callable[[Path], None], progress: Progress) -> Pulled:
    """Make a version of a published model, or find that it is there.

    Args:
        root: the repository.
        wanted: what.
        check: tries the finished version before it is moved into place, and raises if it is not fit to serve.
        progress: told how it goes on.

    Raises:
        ServeError: the hub or its files are at fault, or the version exists.
        OSError: a file cannot be written.
    """
    repository, name = hub_repository(wanted.name), local_name(wanted.name)
    listing = list_files(repository, wanted.revision)
    files = _chosen(listing, wanted)
    version, there = _place(root, name, listing, wanted, files)
    if there:
        return Pulled(root / name / str(version), listing.commit, new=False)
    staging = staging_root(root)
    try:
        with FileLock(staging / "lock", blocking=False):
            folder = _fetch(staging, listing, files, wanted, progress)
            complete(folder, name, {"repository": repository, "revision": listing.commit}, wanted.limits)
            check(folder)
            target = publish(folder, root, name, version, wanted.force)
            _tidy(staging, repository)
    except Timeout as error:
        raise RepositoryError(staging, "another pull into this repository is running; wait for it to end") from error
    return Pulled(target, listing.commit, new=True)


def _chosen(listing: Listing, wanted: Pull) -> dict[str, RemoteFile]:
    """The files to take, by the names that they get here."""
    published = [variant for variant, path in GRAPH_FILES.items() if path in listing.files]
    if missing := [variant for variant in wanted.variants if variant not in published]:
        known = ", ".join(published) or "none"
        raise HubError(f"{listing.repository}: has no variant '{missing[0]}'; published are: {known}")
    if not published:
        raise HubError(
            f"{listing.repository}: holds no ONNX graph ({', '.join(GRAPH_FILES.values())}){_other(listing)}"
        )
    names = {GRAPHS[variant]: GRAPH_FILES[variant] for variant in wanted.variants or published}
    if TOKENIZER not in listing.files:
        raise HubError(f"{listing.repository}: holds no {TOKENIZER}")
    names |= {name: name for name in SHARED if name in listing.files}
    return {
        here: checked(listing.files[there], listing.repository, wanted.limits.of(here)) for here, there in names.items()
    }


def _other(listing: Listing) -> str:
    if CHECKPOINT not in listing.files:
        return ""
    return f", but a {CHECKPOINT}: download the repository and bring it by 'kniv-serve import'"


def _place(root: Path, name: str, listing: Listing, wanted: Pull, files: dict[str, RemoteFile]) -> tuple[int, bool]:
    """The version to make, and whether it is there already."""
    source = {"repository": listing.repository, "revision": listing.commit}
    for version in versions(root, name):
        folder = root / name / str(version)
        if wanted.version in (0, version) and _source(folder, wanted.limits) == source:
            if wanted.force:
                return version, False
            if all((folder / file).is_file() for file in files):
                return version, True
    return choose_version(root, name, wanted.version, wanted.force), False


def _source(folder: Path, limits: SizeLimits) -> object:
    """Where a version came from; None if it does not say."""
    try:
        return read_untrusted_object(folder / METADATA, limits).get("source")
    except RepositoryError:
        return None


def _fetch(staging: Path, listing: Listing, files: dict[str, RemoteFile], wanted: Pull, progress: Progress) -> Path:
    """Bring all files into a folder; what an interrupted pull of the same commit brought is held against its
    checksum again and kept.
    """
    base = staging / f"{_prefix(listing.repository)}{listing.commit}"
    folder = base / "version"
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.iterdir():
        if earlier.name not in files or earlier.name in (LABELS, METADATA):  # those two were completed since
            earlier.unlink()
    place = Place(listing.repository, listing.commit, wanted.attempts)
    for name, file in files.items():
        part, target = base / f"{name}.part", folder / name
        if target.exists():
            target.replace(part)
        download(place, file, part, target, progress.file(file.path, file.size))
    return folder


def _tidy(staging: Path, repository: str) -> None:
    """Throw away what pulls of this repository left, of this commit and of older ones."""
    for folder in staging.glob(f"{_prefix(repository)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(repository: str) -> str:
    return repository.replace("/", "--") + "@"
