"""Runs before the first request: those that a model's configuration asks for, and the largest that there will be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import thread_time

import numpy as np

from kniv.server.errors import RepositoryError
from kniv.server.repository.config import WarmupInput, WarmupSample
from kniv.server.repository.untrusted import SizeLimits, inside
from kniv.server.runtime.providers import first_line
from kniv.server.runtime.session import INPUTS, OUTPUTS, Ints, Session

log = logging.getLogger(__name__)

_LONG_RUN = 0.25  # seconds; far more than an urgent row may wait, so that no batch is to take as long
_INSTANT = 1e-4  # seconds; of less the clock may say nothing


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


def fill(session: Session, at_once: int, rows: int, tokens: int, longest: int) -> None:
    """Run the largest batches that will come, side by side, so that ONNX Runtime's memory has its size from the start.

    An arena keeps what it ever held, so without this it grows whenever batches that happen to run at once need more
    than any before: for hours, a little at a time. A model too slow for such batches, which are then never formed, is
    given as many rows as it may run in a fraction of a second. Where the memory is not there, that is logged, and the
    model serves smaller batches.

    Args:
        session: what to run.
        at_once: runs side by side.
        rows: most rows of a batch.
        tokens: most padded subwords of a batch.
        longest: most subwords of a row.
    """
    try:
        fits = int(_LONG_RUN / max(_seconds(session, 1, longest), _INSTANT))
        with ThreadPoolExecutor(at_once) as beside:
            for length in (longest, max(1, min(longest, tokens // rows))):
                most = max(1, min(rows, tokens // length, fits * longest // length))
                for run in [beside.submit(_seconds, session, most, length) for _ in range(at_once)]:
                    run.result()
    except Exception as error:
        log.warning("%s fails on the largest batch that it may get: %s", session.path, first_line(error))


def _seconds(session: Session, rows: int, length: int) -> float:
    """Run a batch of some shape; processor seconds of this thread, which other work on the machine changes little."""
    ids = np.zeros((rows, length), dtype=np.int64)
    started = thread_time()
    session.run(ids, np.ones_like(ids), np.zeros(rows, dtype=np.int64), session.answers)
    return thread_time() - started


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
