"""A model that lies on disk somewhere else: what it is, and a copy of the files that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kniv.server.errors import InvalidRequestError, RepositoryError
from kniv.server.repository.layout import GRAPHS
from kniv.server.repository.manifest import verify
from kniv.server.repository.published import CHECKPOINT, METADATA, SHARED, TOKENIZER, local_name
from kniv.server.repository.untrusted import SizeLimits, copy_bounded, inside, read_untrusted_object

ENCODER_CONFIG = "config.json"
_RUN = ("encoder.json", "cascade.json")  # what kniv.training's own checkpoints have beside their weights
_RUN_FACTS = ("fit.json", "start.json")


class Kind(StrEnum):
    """What a model on disk is made of."""

    GRAPHS = "graphs"
    CHECKPOINT = "checkpoint"  # a published model.pt: a flat state dict
    RUN = "run"  # a checkpoint of kniv.training's


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model somewhere on disk.

    Attributes:
        kind: what it is made of.
        folder: its folder.
        files: name in the folder, by the name that a copy gets.
    """

    kind: Kind
    folder: Path
    files: dict[str, str]


def recognise(source: Path) -> LocalModel:
    """Tell what ``source`` is: a folder as published, a version folder, or a checkpoint; or one file of such a folder.

    Graphs win over a checkpoint beside them.

    Raises:
        RepositoryError: it is not there, or none of these.
    """
    if source.is_dir():
        folder, chosen = source, None
    elif source.is_file():
        folder, chosen = source.parent, source.name
        if chosen != CHECKPOINT and chosen not in GRAPHS.values():
            known = ", ".join((*GRAPHS.values(), CHECKPOINT))
            raise RepositoryError(source, f"is no file of a model; name its folder, or one of {known}")
        if folder.resolve().name == "onnx" and not (folder / TOKENIZER).exists():
            folder = folder.resolve().parent
    else:
        raise RepositoryError(source, "no such file or folder")
    graphs = {
        name: place
        for name in GRAPHS.values()
        if chosen in (None, name)
        for place in (name, f"onnx/{name}")
        if (folder / place).exists()
    }
    if graphs:
        return LocalModel(Kind.GRAPHS, folder, graphs | _present(folder, SHARED))
    if chosen in (None, CHECKPOINT) and (folder / CHECKPOINT).exists():
        run = _present(folder, _RUN)
        kind, more = (Kind.RUN, (*_RUN, *_RUN_FACTS)) if len(run) == len(_RUN) else (Kind.CHECKPOINT, (ENCODER_CONFIG,))
        return LocalModel(kind, folder, {CHECKPOINT: CHECKPOINT} | _present(folder, (*SHARED, *more)))
    known = ", ".join((*GRAPHS.values(), CHECKPOINT))
    raise RepositoryError(source, f"holds no model: expected one of {known}, the graphs in it or in onnx/")


def copy_files(model: LocalModel, target: Path, limits: SizeLimits) -> None:
    """Copy a model's files to ``target``, their sizes and links checked.

    Raises:
        RepositoryError: a file is too large, leads out of the folder or is not what its checksum says, or the
            tokenizer is missing.
    """
    found = {name: inside(model.folder, place, limits) for name, place in model.files.items()}
    if TOKENIZER not in found:
        raise RepositoryError(model.folder / TOKENIZER, "missing; a model cannot be used without its tokenizer")
    verify(model.folder)
    for name, path in found.items():
        if path is not None:
            copy_bounded(path, target / name, limits.of(name))


def suggested_name(model: LocalModel, limits: SizeLimits) -> str:
    """What to call a model that nobody named: as its metadata says, or else after its folder.

    Raises:
        InvalidRequestError: neither is a name that a model can have.
        RepositoryError: the metadata cannot be read.
    """
    folder = model.folder.resolve()
    candidates = [folder.parent.name if folder.name.isdigit() else folder.name]
    if (path := inside(folder, METADATA, limits)) and isinstance(
        name := read_untrusted_object(path, limits).get("name"), str
    ):
        candidates.insert(0, name)
    for candidate in candidates:
        try:
            return local_name(candidate)
        except InvalidRequestError:
            continue
    raise InvalidRequestError("--name", f"is needed: '{candidates[-1]}' is no name for a model")


def _present(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {name: name for name in names if (folder / name).exists() or (folder / name).is_symlink()}
