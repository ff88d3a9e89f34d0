"""``kniv-serve check``: every model of a repository, validated without serving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kniv.server.commands.options import DEFAULT_REPOSITORY, Repository, told
from kniv.server.errors import RepositoryError
from kniv.server.repository.published import FAMILY

if TYPE_CHECKING:
    from kniv.server.repository.config import ModelConfig
    from kniv.server.repository.layout import ModelFolder, VersionFiles

Device = Annotated[
    Literal["cpu", "cuda"], typer.Option(envvar="KNIV_DEVICE", help="Where models run whose config.pbtxt does not say.")
]


@dataclass(frozen=True, slots=True)
class _Finding:
    """What was found of a model, a version or a variant."""

    place: str
    said: str
    sound: bool


def check(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models; all if not given.")] = None,
    model_repository: Repository = DEFAULT_REPOSITORY,
    device: Device = "cpu",
) -> None:
    """Load, try and warm every version of every model, one after another.

    One line a variant tells that it is fit to serve, or what is wrong; the status is 1 if anything is.
    """
    sound = True
    with told():
        from kniv.server.repository import layout

        folders = [layout.find(model_repository, name) for name in models or ()] or layout.models(model_repository)
        if not folders:
            raise RepositoryError(model_repository, "holds no model; kniv-serve pull or import brings one")
        for folder in folders:
            for finding in _model(folder, device, asked_for=bool(models)):
                print(f"{finding.place}: {finding.said}", flush=True)
                sound = sound and finding.sound
    if not sound:
        raise typer.Exit(1)


def _model(folder: ModelFolder, device: Literal["cpu", "cuda"], asked_for: bool) -> Iterator[_Finding]:
    from kniv.server.repository.config import load_config

    if folder.problem:
        yield _Finding(folder.name, folder.problem, sound=False)
        return
    try:
        config = load_config(folder.path, default_device=device)
        config.version_policy.choose([files.version for files in folder.versions])
    except RepositoryError as error:
        yield _Finding(folder.name, str(error), sound=False)
        return
    if not folder.versions:
        # The repository that comes with the server holds the published models' configurations alone.
        published = folder.name in FAMILY
        way = f"kniv-serve pull {folder.name}" if published else "kniv-serve import"
        yield _Finding(folder.name, f"has no version yet; {way} brings one", sound=published and not asked_for)
    for files in folder.versions:
        yield from _version(files, config)


def _version(files: VersionFiles, config: ModelConfig) -> Iterator[_Finding]:
    from kniv.server.models.opening import open_version
    from kniv.server.runtime.session import Session

    place = f"{files.model} {files.version}"
    try:
        opened = open_version(files, config, threads=1)
    except RepositoryError as error:
        yield _Finding(place, str(error), sound=False)
        return
    for variant in opened.variants:
        yield _Finding(f"{place} {variant}", "ok", sound=True)
    for variant, path in files.graphs.items():
        if variant not in opened.variants:
            try:
                Session(path).check(opened.labels, opened.encoder.vocabulary, opened.limits.max_subwords)
                yield _Finding(f"{place} {variant}", "ok, but not served on this device", sound=True)
            except RepositoryError as error:
                yield _Finding(f"{place} {variant}", str(error), sound=False)
