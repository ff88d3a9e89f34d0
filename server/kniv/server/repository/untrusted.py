"""Files that came from outside: bounded in size and kept inside their folder."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import read_object

_DEFAULT_GRAPH = 4 << 30
_TOKENIZER, _JSON = 128 << 20, 4 << 20


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Largest files accepted, in bytes.

    Attributes:
        weights: a graph or a checkpoint.
        tokenizer: ``tokenizer.json``.
        json: any other JSON file.
    """

    weights: int = _DEFAULT_GRAPH
    tokenizer: int = _TOKENIZER
    json: int = _JSON

    def of(self, name: str) -> int:
        """The limit of the file of this name."""
        if name == "tokenizer.json":
            return self.tokenizer
        return self.json if name.endswith(".json") else self.weights


def inside(folder: Path, name: str, limits: SizeLimits) -> Path | None:
    """The file ``name`` below ``folder``, with links resolved; None if there is none.

    Raises:
        RepositoryError: it is a link that leads out of the folder or in a circle, no regular file, or too large.
    """
    path = folder / name
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise RepositoryError(path, "is a link that leads nowhere") from error
        return None
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        raise RepositoryError(path, f"cannot be read: {error}") from error
    if not real.is_relative_to(folder.resolve()):
        raise RepositoryError(path, "is a link that leads out of the folder; copy the folder with its links resolved")
    if not stat.S_ISREG(status.st_mode):
        raise RepositoryError(path, "is no regular file")
    if status.st_size > limits.of(path.name):
        raise RepositoryError(path, oversize(status.st_size, limits.of(path.name)))
    return real


def oversize(size: int, limit: int) -> str:
    """What to tell of a file over its limit."""
    return f"has {size:,} bytes, more than the {limit:,} that are accepted; raise --max-file-bytes if you trust it"


def copy_bounded(source: Path, target: Path, limit: int) -> None:
    """Copy a file's bytes, not its links or rights, and no more than ``limit`` of them.

    Raises:
        RepositoryError: the file grew beyond the limit.
    """
    copied = 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(1 << 20):
            copied += len(block)
            if copied > limit:
                raise RepositoryError(source, oversize(copied, limit))
            writer.write(block)


def read_untrusted_object(path: Path, limits: SizeLimits) -> dict[str, object]:
    """A JSON object of bounded size and depth.

    Raises:
        RepositoryError: the file is missing, too large, too deep, or holds something else.
    """
    if path.is_file() and path.stat().st_size > limits.of(path.name):
        raise RepositoryError(path, oversize(path.stat().st_size, limits.of(path.name)))
    try:
        return read_object(path)
    except RecursionError as error:
        raise RepositoryError(path, "is nested too deeply to be read") from error
