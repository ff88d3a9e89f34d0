"""``kniv-serve pull``: a published model from the hub."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from kniv.server.commands.options import (
    DEFAULT_MAX_FILE_BYTES,
    DEFAULT_REPOSITORY,
    Force,
    MaxFileBytes,
    Repository,
    told,
)
from kniv.server.repository.layout import GRAPHS


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="kniv-xsmall, kniv-small, kniv-base, kniv-large, or a hub repository as owner/name."
        ),
    ],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    variant: Annotated[
        str, typer.Option(help=f"Variants to take, of {','.join(GRAPHS)}; all that are published if not given.")
    ] = "",
    model_repository: Repository = DEFAULT_REPOSITORY,
    version: Annotated[int, typer.Option(min=0, help="Number of the new version; 0 for the next free one.")] = 0,
    force: Force = False,
    attempts: Annotated[int, typer.Option(min=1, help="Failed attempts in a row at a file before giving up.")] = 5,
    max_file_bytes: MaxFileBytes = DEFAULT_MAX_FILE_BYTES,
) -> None:
    """Bring a published model from the Hugging Face hub into the repository.

    A private repository is read with the token of HF_TOKEN or of `hf auth login`.
    """
    variants = tuple(dict.fromkeys(part.strip() for part in variant.split(",") if part.strip()))
    if unknown := [part for part in variants if part not in GRAPHS]:
        raise typer.BadParameter(f"'{unknown[0]}' is none of {', '.join(GRAPHS)}", param_hint="--variant")
    with told():
        # Late: the hub's library and ONNX Runtime take their time, and other commands need neither.
        from kniv.server.commands.trial import try_version
        from kniv.server.repository.hub.pull import Pull
        from kniv.server.repository.hub.pull import pull as run
        from kniv.server.repository.untrusted import SizeLimits

        wanted = Pull(name, revision, variants, version, force, attempts, SizeLimits(weights=max_file_bytes))
        with _progress() as progress:
            pulled = run(model_repository, wanted, try_version, _Bars(progress))
        state = "is" if pulled.new else "is already there:"
        print(f"{pulled.folder} {state} {name} at {pulled.commit}")


class _Bars:
    """A bar for each file."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def file(self, name: str, size: int) -> Callable[[int], None]:
        """Begin a bar; the answer moves it."""
        task = self._progress.add_task(name, total=size)
        return lambda there: self._progress.update(task, completed=there)


def _progress() -> Progress:
    """Bars on standard error; none where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    rates = (TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, *rates, console=Console(stderr=True), disable=not sys.stderr.isatty())
