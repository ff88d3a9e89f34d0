"""The folders of a model repository, laid out as Triton's.

    <repository>/<model>/config.pbtxt (optional)
                         warmup/<file> (optional)
                         <version>/cascade.onnx | cascade-int8.onnx | cascade-fp16.onnx
                                   labels.json  metadata.json  tokenizer.json
                                   .optimised/ (what the server made of the graphs; may be deleted at any time)

A version is a folder whose name is a positive number without leading zeros; anything else is ignored. So are
folders whose name begins with a dot, and those that hold neither a configuration nor a version. Links are
followed as long as they stay below the repository.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kniv.server.errors import InvalidRequestError, NotFoundError, RepositoryError, shown

CONFIG = "config.pbtxt"
CACHE = ".optimised"
GRAPHS = {"int8": "cascade-int8.onnx", "fp32": "cascade.onnx", "fp16": "cascade-fp16.onnx"}
# The variant that a graph file under a name of its own is served as.
OWN_GRAPH = "default"

_VERSION = re.compile(r"[1-9][0-9]{0,18}")
_NEWEST = 2**63 - 1  # versions travel as int64
_NAME_BYTES = 255  # of a file's name, on the usual file systems


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """One version of a model on disk.

    Attributes:
        graphs: path of each variant's graph, preferred variant first.
    """

    model: str
    version: int
    folder: Path
    graphs: dict[str, Path]

    @property
    def labels(self) -> Path:
        """Label lists."""
        return self.folder / "labels.json"

    @property
    def metadata(self) -> Path:
        """Facts about the model."""
        return self.folder / "metadata.json"

    @property
    def tokenizer(self) -> Path:
        """Tokenizer in the format of the ``tokenizers`` library."""
        return self.folder / "tokenizer.json"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model on disk.

    Attributes:
        name: the model's.
        path: its folder.
        versions: its versions, newest first.
        problem: why it cannot be served as it lies there; empty if nothing is wrong with its layout.
    """

    name: str
    path: Path
    versions: tuple[VersionFiles, ...]
    problem: str = ""


def models(root: Path) -> list[ModelFolder]:
    """Every model below ``root``, by name. One that cannot be read has its reason and hides no other.

    Raises:
        RepositoryError: ``root`` is no folder, or cannot be read.
    """
    base = _resolved(root)
    try:
        names = sorted(path.name for path in root.iterdir())
    except OSError as error:
        raise RepositoryError(root, f"cannot be read: {error}") from error
    found = (_model(base, root / name) for name in names if not _flaw(name))
    return [model for model in found if model is not None]


def find(root: Path, name: str) -> ModelFolder:
    """One model below ``root``.

    Args:
        root: the repository.
        name: the model's, from anywhere: it cannot lead out of ``root``.

    Raises:
        InvalidRequestError: no model can have this name.
        NotFoundError: there is no such model.
        RepositoryError: its folder, or ``root``, cannot be read, or has a link that leads out of ``root``.
    """
    if flaw := _flaw(name):
        raise InvalidRequestError("model_name", f"{flaw}; a model is named by its folder in the repository")
    found = _model(_resolved(root), root / name)
    if found is None:
        raise NotFoundError(f"no model {shown(name)} in the repository")
    if found.problem:
        raise RepositoryError(found.path, found.problem)
    return found


def stays_inside(name: str) -> bool:
    """Whether ``name`` is a path that, followed from a folder, cannot lead out of it but by a link."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _flaw(name: str) -> str:
    """Why a model cannot be named so."""
    if not name:
        return "must not be empty"
    if name.startswith("."):
        return "must not begin with a dot"
    if "/" in name or not name.isprintable():
        return "must not hold '/' or control characters"
    return "" if len(name.encode()) <= _NAME_BYTES else f"must not be longer than {_NAME_BYTES} bytes"


def _resolved(root: Path) -> Path:
    if not root.is_dir():
        raise RepositoryError(root, "no such model repository; name a folder with --model-repository")
    return Path(os.path.realpath(root))


def _model(base: Path, path: Path) -> ModelFolder | None:
    """The model in a folder; None if it is none."""
    try:
        if not path.is_dir():
            return None
        if _leads_out(base, path):
            return ModelFolder(path.name, path, (), _outside(path))
        numbers = [int(entry.name) for entry in path.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir()]
        versions = tuple(_version(path, number) for number in sorted(numbers, reverse=True) if number <= _NEWEST)
        if not versions and not (path / CONFIG).is_symlink() and not (path / CONFIG).exists():
            return None
        return ModelFolder(path.name, path, versions, _leak(base, path, versions))
    except OSError as error:
        return ModelFolder(path.name, path, (), f"cannot be read: {error}")


def _version(path: Path, number: int) -> VersionFiles:
    folder = path / str(number)
    graphs = {variant: folder / name for variant, name in GRAPHS.items() if (folder / name).is_file()}
    return VersionFiles(path.name, number, folder, graphs)


def _leak(base: Path, path: Path, versions: tuple[VersionFiles, ...]) -> str:
    """Tell of a file that would be read from outside of the repository."""
    read = [path / CONFIG, *(files.folder for files in versions)]
    read += [place for files in versions for place in files.folder.iterdir()]
    return next((_outside(place) for place in read if place.is_symlink() and _leads_out(base, place)), "")


def _leads_out(base: Path, place: Path) -> bool:
    # Unlike Path.resolve, realpath takes a circle of links as it is: it leads nowhere, so not out.
    return not Path(os.path.realpath(place)).is_relative_to(base)


def _outside(place: Path) -> str:
    return f"'{place.name}' is a link that leads out of the repository; put what it points at below the repository"
