"""Warm-up runs as a model's configuration asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kniv.server.errors import RepositoryError
from kniv.server.repository.config import WarmupInput, WarmupSample
from kniv.server.repository.untrusted import SizeLimits, inside
from kniv.server.runtime.providers import first_line
from kniv.server.runtime.session import INPUTS, OUTPUTS, Ints, Session


def warm(session: Session, samples: Sequence[WarmupSample], folder: Path) -> None:
    """Run the samples.

    Args:
        samples: what to run, each ``count`` times.
        folder: the model's folder; files that samples name lie in its ``warmup``.

    Raises:
        RepositoryError: a file does not hold what the sample says, or a run fails.
    """
    for sample in samples:
        feed = [_values(sample, name, folder) for name in INPUTS]
        for _ in range(max(sample.count, 1)):
            try:
                session.run(feed[0], feed[1], feed[2], OUTPUTS)
            except Exception as error:
                raise RepositoryError(session.path, f"fails on warm-up '{sample.name}': {first_line(error)}") from error


def _values(sample: WarmupSample, name: str, folder: Path) -> Ints:
    """A sample's input with its batch dimension; a mask of zeros, which no row can have, is one of ones."""
    given: WarmupInput = sample.inputs[name]
    shape = (sample.batch_size, *given.dims)
    if given.file:
        path = inside(folder / "warmup", given.file, SizeLimits())
        if path is None:
            raise RepositoryError(folder / "warmup" / given.file, f"missing; warm-up '{sample.name}' names it")
        values = np.fromfile(path, dtype=np.int64)
        if values.size != np.prod(shape):
            problem = f"holds {values.size} int64 values where warm-up '{sample.name}' needs {list(shape)}"
            raise RepositoryError(path, problem)
        return values.reshape(shape)
    if name == "attention_mask":
        return np.ones(shape, dtype=np.int64)
    # Random subwords would warm nothing that zeros do not: shapes alone decide what is allocated.
    return np.zeros(shape, dtype=np.int64)
