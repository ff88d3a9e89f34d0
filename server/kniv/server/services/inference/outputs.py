"""The outputs of a ModelInfer request: which are asked for, where rows write them, how they go on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import triton_to_np_dtype

from kniv.server.errors import InvalidRequestError, UnsupportedError, shown
from kniv.server.runtime.session import OUTPUTS
from kniv.server.services.inference.tensors import refuse_parameters

Floats = NDArray[Any]

_CLASSIFICATION = "classification"


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model.

    Attributes:
        name: its name.
        datatype: Triton's name of its element type, for example ``FP32``.
        dims: its shape without the batch dimension; -1 stands for the number of subwords.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]

    def shape(self, rows: int, subwords: int) -> tuple[int, ...]:
        """Its shape for a request."""
        return (rows, *(subwords if size < 0 else size for size in self.dims))

    def size(self, rows: int, subwords: int) -> int:
        """Its bytes for a request."""
        return prod(self.shape(rows, subwords)) * int(np.dtype(triton_to_np_dtype(self.datatype)).itemsize)


def outputs_of(config: model_config_pb2.ModelConfig) -> dict[str, Output]:
    """The outputs that a model's complete configuration tells of, by name."""
    return {
        one.name: Output(one.name, model_config_pb2.DataType.Name(one.data_type)[5:], tuple(one.dims))
        for one in config.output
        if one.name in OUTPUTS
    }


def asked_for(message: pb.ModelInferRequest, known: Mapping[str, Output]) -> tuple[Output, ...]:
    """The outputs that a request wants, in its order; all if it names none.

    Raises:
        InvalidRequestError: an output is unknown or named twice, or has a parameter that is unknown.
        UnsupportedError: an output is asked for as classes, or in shared memory.
    """
    chosen: dict[str, Output] = {}
    for place, wanted in enumerate(message.outputs):
        name, field = wanted.name, f"outputs['{wanted.name}']"
        if name not in known:
            problem = f"{shown(name)} is no output of the model; there are: {', '.join(known)}"
            raise InvalidRequestError(f"outputs[{place}].name", problem)
        if name in chosen:
            raise InvalidRequestError(f"outputs[{place}].name", f"'{name}' is there twice")
        if _CLASSIFICATION in wanted.parameters:
            raise UnsupportedError(
                f"{field}: the classification extension is not served; kniv.v1.AnnotationService answers with labels"
            )
        refuse_parameters(wanted.parameters, field)
        chosen[name] = known[name]
    return tuple(chosen.values() or known.values())


class Answers:
    """The outputs of one request: each row writes its own part, from any thread.

    Beyond a row's length everything is zero.

    Args:
        outputs: the outputs asked for.
        rows, subwords: shape of the request's ``input_ids``.
    """

    def __init__(self, outputs: tuple[Output, ...], rows: int, subwords: int) -> None:
        self._outputs = outputs
        # Zeros that nobody has written to yet cost no memory.
        self._values: dict[str, Floats] = {
            one.name: np.zeros(one.shape(rows, subwords), triton_to_np_dtype(one.datatype)) for one in outputs
        }

    def write(self, row: int, found: Mapping[str, Floats]) -> None:
        """Copy one row's outputs, each without its batch dimension and padding."""
        for name, values in found.items():
            target = self._values[name][row]
            target[tuple(slice(size) for size in values.shape)] = values

    def packed(self, response: pb.ModelInferResponse, in_stream: bool) -> bytes:
        """A response with all outputs, serialised.

        Tensors are joined to the message as its last fields instead of being set in it, which would copy each
        three times. See https://protobuf.dev/programming-guides/encoding/.

        Args:
            response: what else is in it; the outputs' descriptions are added.
            in_stream: whether it goes into a ModelStreamInferResponse.
        """
        tensors: list[bytes | memoryview] = []
        for one in self._outputs:
            values = self._values[one.name]
            response.outputs.add(name=one.name, datatype=one.datatype, shape=values.shape)
            tensors += [_head(pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER, values.nbytes)]
            tensors += [values.data.cast("B")]
        parts = [response.SerializeToString(), *tensors]
        if in_stream:
            size = sum(len(part) for part in parts)
            parts.insert(0, _head(pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER, size))
        return b"".join(parts)


def _head(number: int, size: int) -> bytes:
    """What stands before so many bytes of a length-delimited field: its number, below 16, and the size in base 128."""
    head = bytearray([number << 3 | 2])
    while size >= 1 << 7:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)
