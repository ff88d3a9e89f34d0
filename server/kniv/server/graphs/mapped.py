"""Large weights in a file of their own, which sessions map into memory instead of reading it.

Of an embedding table so mapped the pages around what is looked up are in memory, and the system may take them back; of
weights that ONNX Runtime packs anew no second copy stands beside the packed one while the graph is loaded.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from kniv.server.graphs.files import write_model

WEIGHTS = "weights"
LEAST = 1 << 16  # bytes of a weight that is worth a mapping of its own
_PAGE = 4096  # mappings begin at pages


def mappable(model: onnx.ModelProto) -> int:
    """Bytes of the weights that :func:`write_mapped` would put into their own file."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer if len(tensor.raw_data) >= LEAST)


def write_mapped(model: onnx.ModelProto, path: Path) -> None:
    """Write a model and, beside it, the file ``weights``; the model is left without its weights.

    The weights' file is ONNX's external data: its name and each weight's place in it stand in the model, so both must
    be kept in one folder and never be changed in place.

    Args:
        model: the model, its weights inside.
        path: the model's file; it appears once both are whole.

    Raises:
        OSError: a file cannot be written; the model has no weights then either.
    """
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    with path.with_name(WEIGHTS).open("wb") as file:
        for tensor in tensors:
            raw = tensor.raw_data
            if len(raw) < LEAST:
                continue
            begin = file.seek(-file.tell() % _PAGE, 1)
            file.write(raw)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", WEIGHTS), ("offset", begin), ("length", len(raw))):
                tensor.external_data.add(key=key, value=str(value))
    model.graph.initializer.extend(tensors)
    write_model(model, path)
