"""What the commands share: options, and how an error ends them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kniv.server.errors import ServeError

Repository = Annotated[
    Path, typer.Option("--model-repository", envvar="KNIV_MODEL_REPOSITORY", help="Folder that holds the models.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a version that is there.")]
MaxFileBytes = Annotated[
    int, typer.Option("--max-file-bytes", min=1, help="Largest graph or checkpoint accepted, in bytes.")
]
DEFAULT_REPOSITORY = Path("model_repository")
DEFAULT_MAX_FILE_BYTES = 4 << 30


@contextmanager
def told() -> Iterator[None]:
    """End the command with status 1 and one line on an error that was foreseen."""
    try:
        yield
    except (ServeError, OSError) as error:
        print(f"kniv-serve: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
