"""Trying a version before it is put into the repository."""

from __future__ import annotations

from pathlib import Path

from kniv.server.pipeline.encode import Encoder
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import GRAPHS, VersionFiles
from kniv.server.repository.metadata import Metadata
from kniv.server.runtime.session import Session


def try_version(folder: Path) -> None:
    """Load tokenizer and graphs of a version, one graph after another, and run each on the CPU.

    Raises:
        RepositoryError: a file is broken, or does not fit the others.
    """
    graphs = {variant: folder / name for variant, name in GRAPHS.items() if (folder / name).is_file()}
    files = VersionFiles("", 0, folder, graphs)
    labels, limits = Labels.load(files.labels), Metadata.load(files.metadata)
    encoder = Encoder(files.tokenizer, limits)
    for path in files.graphs.values():
        Session(path).check(labels, encoder.vocabulary, limits.max_subwords)
