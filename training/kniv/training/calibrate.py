"""Ranges of a graph's activations on sample rows, for INT8 graphs with fixed ranges."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Feed = Mapping[str, NDArray[np.int64]]


def ranges(model: onnx.ModelProto, names: tuple[str, ...], feeds: Iterable[Feed]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each named output of a model over all feeds.

    Args:
        model: a float model; it is written to a temporary file.
        names: float outputs of it.
        feeds: inputs of single runs, without padding, which would count too.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observed.onnx"
        onnx.save(model, path)
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = dict.fromkeys(names, (np.inf, -np.inf))
        for feed in feeds:
            for name, values in zip(names, session.run(list(names), feed), strict=True):
                low, high = found[name]
                found[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return found
