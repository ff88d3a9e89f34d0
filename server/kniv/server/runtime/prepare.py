"""From a graph on disk to the one that is run: the rewriting that every graph gets when it is loaded."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from kniv.server.graphs import lengths
from kniv.server.graphs.pipeline import optimise

log = logging.getLogger(__name__)

# A protobuf message ends at 2 GiB, and rewriting needs room for a second copy.
_LARGEST = 1 << 30


def prepared(path: Path) -> bytes | Path:
    """A graph whose LSTMs know their rows' lengths and whose heads run only when they are asked for.

    Answers stay what they are: see :mod:`kniv.server.graphs.lengths` and :mod:`kniv.server.graphs.tasks`. A graph that
    cannot be rewritten, because it is too large, keeps weights in other files or is no graph at all, is left as it is.

    Returns:
        The graph, serialised; or the path, where it is left as it is.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return path
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        return path  # ONNX Runtime says better what is wrong with it
    if any(uses_external_data(weight) for weight in model.graph.initializer):
        return path
    try:
        done = optimise(model, passes=(lengths.apply,))
    except Exception as error:  # a graph like no other that we know; it may run all the same
        log.warning("%s runs as it is, all heads at every run: it cannot be rewritten: %s", path, error)
        return path
    for report in done.report:
        log.debug("%s: %s: %s", path, report.name, report.note)
    content: bytes = done.model.SerializeToString()
    return content
