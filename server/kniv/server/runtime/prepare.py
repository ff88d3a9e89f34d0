"""From a graph on disk to the one that is run: the rewriting that every graph gets when it is loaded.

ONNX and the passes are imported when a graph is rewritten, not when one is found that was rewritten before.
"""

from __future__ import annotations

import logging
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from kniv.server.errors import RepositoryError
from kniv.server.runtime import cache
from kniv.server.runtime.providers import first_line

if TYPE_CHECKING:
    from onnx import ModelProto

    from kniv.server.graphs.pipeline import Calibrate, Optimised

log = logging.getLogger(__name__)

_WORTH_MAPPING = 8 << 20  # bytes of weights
_LARGEST = (1 << 31) - (1 << 20)  # bytes of a protobuf message, some left for what ONNX Runtime adds


def prepared(path: Path, digest: str = "") -> bytes | Path:
    """A graph after all passes that fit it, made now or kept from before; see :mod:`kniv.server.graphs.pipeline`.

    A graph that cannot be rewritten is left as it is: one too large for a protobuf message, with weights in other
    files, like no graph that the passes know, or no graph at all.

    Args:
        path: the graph.
        digest: its SHA-256, if that is known.

    Returns:
        Where the graph lies; or itself, serialised, where it could not be kept on disk.
    """
    if not path.is_file():
        return path  # ONNX Runtime says what is wrong with it
    try:
        key = cache.key_of(path, digest)
        found = cache.find(path, key)
        return _made(path, key) if found is None else _entry(path, found)
    except Exception as error:  # of a graph like no other that we know; it may run all the same
        problem = error.problem if isinstance(error, RepositoryError) else first_line(error)
        log.warning("%s runs as it is, slower and all heads at every run: %s", path, problem)
        return path


def rewrite(path: Path, calibrate: Calibrate | None = None, halve: bool = False) -> Optimised:
    """Run the passes over a graph in memory; see :func:`kniv.server.graphs.pipeline.optimise`.

    Raises:
        RepositoryError: the graph cannot be rewritten.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import uses_external_data

    from kniv.server.graphs.pipeline import optimise

    if path.stat().st_size > _LARGEST:
        raise RepositoryError(path, "cannot be rewritten: it is larger than the 2 GiB of a protobuf message")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise RepositoryError(path, "cannot be rewritten: it is no ONNX graph, or a damaged one") from error
    if any(uses_external_data(weight) for weight in model.graph.initializer):
        raise RepositoryError(path, "cannot be rewritten: it keeps weights in other files; save it as one file")
    try:
        done = optimise(model, calibrate, halve=halve)
    except Exception as error:
        raise RepositoryError(path, f"cannot be rewritten: {type(error).__name__}: {first_line(error)}") from error
    if (size := done.model.ByteSize()) > _LARGEST:
        problem = f"cannot be rewritten: its {size} bytes would be more than the 2 GiB of a protobuf message"
        raise RepositoryError(path, problem)
    return done


def keep(path: Path, key: str, done: Optimised) -> Path | None:
    """Keep a rewritten graph for later sessions; None where there is no room. Weights may be gone from it after.

    A graph of which nothing was rewritten is kept where mapping its weights is worth a second file.

    Args:
        path: the graph that it was made of.
        key: its key before it was read, see :mod:`kniv.server.runtime.cache`.
        done: what became of it; where that is nothing, an empty entry says so.

    Returns:
        The graph to load.

    Raises:
        RepositoryError: the graph is another by now, so that nobody knows which one was rewritten.
    """
    from kniv.server.graphs.mapped import mappable, write_mapped

    if cache.key_of(path) != key:
        raise RepositoryError(path, "changed while it was read; try again once it is whole")
    worth = any(report.places for report in done.report) or mappable(done.model) >= _WORTH_MAPPING
    kept = cache.store(path, key, lambda target: write_mapped(done.model, target) if worth else target.touch())
    return None if kept is None else _entry(path, kept)


def keep_source(path: Path, key: str) -> None:
    """Have later sessions run a graph as it is: what it was rewritten to is of no use."""
    cache.drop(path, key)
    cache.store(path, key, lambda target: target.touch())


def _made(path: Path, key: str) -> bytes | Path:
    started = perf_counter()
    done = rewrite(path)
    applied = [report.name for report in done.report if report.places]
    log.info("%s rewritten in %.1f s: %s", path, perf_counter() - started, ", ".join(applied) or "nothing to do")
    for report in done.report:
        log.debug("%s: %s: %s", path, report.name, report.note)
    kept = keep(path, key, done)
    if kept is not None or not applied:
        return kept or path
    if not done.model.graph.initializer:  # its weights went to a disk that turned out to be full
        done = rewrite(path)
    return _serialised(done.model)


def _serialised(model: ModelProto) -> bytes:
    content: bytes = model.SerializeToString()
    return content


def _entry(path: Path, found: Path) -> Path:
    return found if found.stat().st_size else path
