"""``kniv-serve import``: a model that lies on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kniv.server.commands.options import (
    DEFAULT_MAX_FILE_BYTES,
    DEFAULT_REPOSITORY,
    Force,
    MaxFileBytes,
    Repository,
    told,
)
from kniv.server.errors import RepositoryError, ServeError

if TYPE_CHECKING:
    from kniv.server.repository.local import LocalModel
    from kniv.server.repository.untrusted import SizeLimits


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_FILE", help="A published model's folder, a version folder, a checkpoint, or a file of one."
        ),
    ],
    name: Annotated[str, typer.Option(help="The model's name here; as its metadata or folder says if not given.")] = "",
    version: Annotated[int, typer.Option(min=0, help="Number of the new version; 0 for the next free one.")] = 0,
    model_repository: Repository = DEFAULT_REPOSITORY,
    force: Force = False,
    max_file_bytes: MaxFileBytes = DEFAULT_MAX_FILE_BYTES,
) -> None:
    """Copy a model into the repository; a checkpoint (model.pt) is exported to ONNX first.

    Checkpoints need PyTorch: pip install 'kniv-serve[training]'. Nothing in them is executed.
    """
    with told():
        from kniv.server.commands.trial import try_version
        from kniv.server.repository.install import choose_version, complete, publish, staged
        from kniv.server.repository.local import recognise, suggested_name
        from kniv.server.repository.published import model_name
        from kniv.server.repository.untrusted import SizeLimits

        limits = SizeLimits(weights=max_file_bytes)
        model = recognise(source)
        chosen = model_name(name, "--name") if name else suggested_name(model, limits)
        number = choose_version(model_repository, chosen, version, force)
        with staged(model_repository) as folder:
            with _named_after(model, folder):
                _fill(model, folder, model_repository, limits)
                complete(folder, chosen, {"path": str(source)}, limits)
                try_version(folder)
            target = publish(folder, model_repository, chosen, number, force)
        print(f"{target} is {source}")


@contextmanager
def _named_after(model: LocalModel, copy: Path) -> Iterator[None]:
    """Tell of a copied file at fault by the name of the file that it was copied from."""
    try:
        yield
    except RepositoryError as error:
        if not error.path.is_relative_to(copy):
            raise
        name = str(error.path.relative_to(copy))
        raise RepositoryError(model.folder / model.files.get(name, name), error.problem) from error


def _fill(model: LocalModel, folder: Path, root: Path, limits: SizeLimits) -> None:
    """Copy the model's graphs to ``folder``, or make them there of a copy of its checkpoint."""
    from kniv.server.repository.install import drop_checksums, settle_labels, staged
    from kniv.server.repository.local import Kind, copy_files
    from kniv.server.repository.published import SHARED

    if model.kind is Kind.GRAPHS:
        copy_files(model, folder, limits)
        return
    try:
        from kniv.training.adopt import adopt_published, adopt_run
    except ImportError as error:
        problem = f"to export a checkpoint, {error.name or 'PyTorch'} is needed: pip install 'kniv-serve[training]'"
        raise ServeError(problem) from error
    with staged(root) as work, _named_after(model, work):
        copy_files(model, work, limits)
        if model.kind is Kind.RUN:
            adopt_run(work, folder)
            return
        for shared in SHARED:
            if (work / shared).exists():
                (work / shared).rename(folder / shared)
        drop_checksums(folder, limits)
        adopt_published(work, folder, settle_labels(folder, limits))
