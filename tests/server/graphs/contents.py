"""A model as it can be compared, wherever its weights lie."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

Contents = tuple[bytes, dict[str, tuple[int, tuple[int, ...], bytes]]]


def contents(model: onnx.ModelProto) -> Contents:
    """The model without its weights, serialised, and each weight's type, shape and bytes; the model loses them."""
    weights = {
        tensor.name: (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        for tensor in model.graph.initializer
    }
    del model.graph.initializer[:]
    return model.SerializeToString(deterministic=True), weights
