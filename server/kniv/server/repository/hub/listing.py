"""What a revision of a hub repository holds: names, sizes and checksums, pinned to one commit."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import httpx
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError

from kniv.server.repository.hub.errors import HubError, explained

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), _COMMIT


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the hub.

    Attributes:
        path: its name there.
        size: its bytes.
        sha256: of its bytes, for a file of Git LFS; else empty.
        blob: Git's object name (SHA-1 of a header and its bytes), for a file of Git itself; else empty.
    """

    path: str
    size: int
    sha256: str
    blob: str

    def hasher(self) -> hashlib._Hash:
        """A new digest that gives :attr:`digest` once it has had all bytes."""
        if self.sha256:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    @property
    def digest(self) -> str:
        """What the hub states."""
        return self.sha256 or self.blob


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one commit, by name."""

    repository: str
    commit: str
    files: dict[str, RemoteFile]


def list_files(repository: str, revision: str) -> Listing:
    """Ask the hub what a revision holds.

    Args:
        repository: as ``organisation/name``.
        revision: branch, tag or commit; the one that it stands for now is what the listing is pinned to.

    Raises:
        HubError: there is no such repository or revision, access is refused, the hub cannot be reached, or
            its answer makes no sense.
    """
    try:
        info = HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    except (OSError, httpx.HTTPError, HFValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise explained(error, repository, revision) from error
    commit = info.sha
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise HubError(f"{repository}: the hub names no commit of revision '{revision}'; check HF_ENDPOINT")
    if _COMMIT.fullmatch(revision) and commit != revision:
        raise HubError(f"{repository}: the hub answers with commit {commit} where {revision} was asked for")
    files = {}
    for sibling in info.siblings or []:
        if not isinstance(sibling.rfilename, str):
            continue
        size = sibling.lfs.size if sibling.lfs else sibling.size
        sha256 = sibling.lfs.sha256 if sibling.lfs else ""
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, size, sha256, sibling.blob_id or "")
    return Listing(repository, commit, files)


def checked(file: RemoteFile, repository: str, limit: int) -> RemoteFile:
    """``file`` itself, if what the hub states about it can be held against what it sends.

    Raises:
        HubError: size or checksum is missing or malformed, or the size is over ``limit`` bytes.
    """
    name = f"{repository}/{file.path}"
    if not isinstance(file.size, int) or file.size < 0:
        raise HubError(f"{name}: the hub states no size")
    if not (_SHA256.fullmatch(str(file.sha256)) if file.sha256 else _SHA1.fullmatch(str(file.blob))):
        raise HubError(f"{name}: the hub states no checksum")
    if file.size > limit:
        raise HubError(f"{name}: has {file.size:,} bytes, more than the {limit:,} accepted; raise --max-file-bytes")
    return file
