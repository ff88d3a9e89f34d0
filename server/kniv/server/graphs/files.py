"""Writing a large model without a second copy of it in memory."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import onnx

_DELIMITED = 2  # protobuf's wire type of nested messages and bytes
_LARGE = 1 << 20


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, weight by weight; the model is left without its weights.

    A protobuf parser joins what it reads of one field twice, so a file may hold the model without weights, followed by
    one more ``graph`` field for each weight (protobuf's encoding, "Last One Wins"). Protobuf's own writer needs up to
    three times the file's size.

    Args:
        model: the model, its weights inside.
        path: the file; it appears once it is whole.
    """
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    whole = path.with_name(path.name + ".part")
    with whole.open("wb") as file:
        file.write(model.SerializeToString())
        for tensor in tensors:
            _write_tensor(file, tensor)
    whole.replace(path)


def _write_tensor(file: BinaryIO, tensor: onnx.TensorProto) -> None:
    raw = tensor.raw_data if tensor.HasField("raw_data") and tensor.ByteSize() > _LARGE else b""
    if raw:
        tensor.ClearField("raw_data")
    rest = tensor.SerializeToString()
    raw_head = _head(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, len(raw)) if raw else b""
    size = len(rest) + len(raw_head) + len(raw)
    tensor_head = _head(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, size)
    graph_head = _head(onnx.ModelProto.GRAPH_FIELD_NUMBER, len(tensor_head) + size)
    for part in (graph_head, tensor_head, rest, raw_head, raw):
        file.write(part)


def _head(field: int, size: int) -> bytes:
    """Tag and length of a field."""
    return _varint(field << 3 | _DELIMITED) + _varint(size)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
