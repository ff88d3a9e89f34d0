"""The tensors of a ModelInfer request: read from the wire and checked, without a copy where they came raw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, UnsupportedError, shown
from kniv.server.runtime.session import INPUTS

Ints = NDArray[np.int64]

SHARED_MEMORY = "shared_memory_region"
_ITEM = np.dtype("<i8")
_SHAPES = {"input_ids": "[rows, subwords]", "attention_mask": "[rows, subwords]", "predicate_idx": "[rows]"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a model can take.

    Attributes:
        rows: rows of one request.
        subwords: subwords of one row.
        vocabulary: ids are below this.
    """

    rows: int
    subwords: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """The checked inputs of a request.

    Attributes:
        ids: subword ids [B, S]; what they are beyond a row's length does not matter.
        lengths: subwords of each row, from 1 to S [B].
        predicates: subword index of each row's predicate, 0 for none [B].
    """

    ids: Ints
    lengths: Ints
    predicates: Ints


def read_inputs(message: pb.ModelInferRequest, bounds: Bounds) -> Inputs:
    """Read and check a request's input tensors.

    Args:
        message: the request.
        bounds: what its model can take.

    Raises:
        InvalidRequestError: a tensor is unknown, missing, there twice, has another type, shape or size than it
            should, or values that the model cannot take.
        UnsupportedError: a tensor is in shared memory.
    """
    tensors = _tensors(message)
    if missing := [name for name in INPUTS if name not in tensors]:
        raise InvalidRequestError("inputs", f"'{missing[0]}' is missing; a request has {', '.join(INPUTS)}")
    ids, mask, predicates = (tensors[name] for name in INPUTS)
    _check_shapes(ids, mask, predicates, bounds)
    lengths = _lengths(mask)
    _check_ids(ids, mask, bounds.vocabulary)
    if len(wrong := np.flatnonzero((predicates < 0) | (predicates >= lengths))):
        row = int(wrong[0])
        problem = f"row {row}: {predicates[row]} is outside of the row's {lengths[row]} subwords; 0 is for no predicate"
        raise InvalidRequestError("inputs['predicate_idx']", problem)
    return Inputs(ids, lengths, predicates)


def refuse_parameters(parameters: Mapping[str, Any], field: str) -> None:
    """Refuse whatever parameters a tensor has.

    Raises:
        UnsupportedError: it is in shared memory.
        InvalidRequestError: it has another parameter.
    """
    if SHARED_MEMORY in parameters:
        raise UnsupportedError(f"{field}: shared memory is not served; send and take tensors in the messages")
    if unknown := sorted(parameters):
        raise InvalidRequestError(f"{field}.parameters", f"no parameter {shown(unknown[0])} is known here")


def _tensors(message: pb.ModelInferRequest) -> dict[str, Ints]:
    """The tensors by name, each with its own type, shape and size right."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        problem = f"{len(raw)} contents for {len(message.inputs)} inputs; there must be one for each, in their order"
        raise InvalidRequestError("raw_input_contents", problem)
    tensors: dict[str, Ints] = {}
    for place, tensor in enumerate(message.inputs):
        name = tensor.name
        if name not in INPUTS:
            problem = f"{shown(name)} is no input of a cascade; there are: {', '.join(INPUTS)}"
            raise InvalidRequestError(f"inputs[{place}].name", problem)
        if name in tensors:
            raise InvalidRequestError(f"inputs[{place}].name", f"'{name}' is there twice")
        field = f"inputs['{name}']"
        refuse_parameters(tensor.parameters, field)
        if tensor.datatype != "INT64":
            raise InvalidRequestError(f"{field}.datatype", f"must be INT64, not {shown(tensor.datatype)}")
        shape = tuple(tensor.shape)
        # Sizes of anybody's choice: a product of them must not be taken for a size that fits.
        if len(shape) != _SHAPES[name].count(",") + 1 or min(shape) < 1:
            problem = f"must be {_SHAPES[name]}, each at least 1, not {list(shape)[:8]}"
            raise InvalidRequestError(f"{field}.shape", problem)
        values = _raw(raw[place], shape, field, tensor) if raw else _contents(tensor.contents, shape, field)
        tensors[name] = values.reshape(shape)
    return tensors


def _raw(content: bytes, shape: tuple[int, ...], field: str, tensor: pb.ModelInferRequest.InferInputTensor) -> Ints:
    if tensor.HasField("contents"):
        raise InvalidRequestError(f"{field}.contents", "is not to be there beside raw_input_contents")
    if len(content) != prod(shape) * _ITEM.itemsize:
        problem = f"has {len(content)} raw bytes where shape {list(shape)} of INT64 asks for {prod(shape) * 8}"
        raise InvalidRequestError(field, problem)
    return np.frombuffer(content, _ITEM)


def _contents(contents: pb.InferTensorContents, shape: tuple[int, ...], field: str) -> Ints:
    if others := [one.name for one, _ in contents.ListFields() if one.name != "int64_contents"]:
        raise InvalidRequestError(f"{field}.contents.{others[0]}", "INT64 values stand in int64_contents, nothing else")
    given = contents.int64_contents
    if len(given) != prod(shape):
        problem = f"has {len(given)} values where shape {list(shape)} asks for {prod(shape)}"
        raise InvalidRequestError(f"{field}.contents", problem)
    return np.fromiter(given, np.int64, len(given))


def _check_shapes(ids: Ints, mask: Ints, predicates: Ints, bounds: Bounds) -> None:
    rows, subwords = ids.shape
    if rows > bounds.rows:
        problem = f"{rows} rows; at most {bounds.rows} a request, the model's max_batch_size"
        raise InvalidRequestError("inputs['input_ids'].shape", problem)
    if subwords > bounds.subwords:
        problem = f"{subwords} subwords; at most {bounds.subwords}, the model's limit"
        raise InvalidRequestError("inputs['input_ids'].shape", problem)
    if mask.shape != ids.shape:
        problem = f"must be that of input_ids, {list(ids.shape)}, not {list(mask.shape)}"
        raise InvalidRequestError("inputs['attention_mask'].shape", problem)
    if len(predicates) != rows:
        problem = f"must be [{rows}], the rows of input_ids, not {list(predicates.shape)}"
        raise InvalidRequestError("inputs['predicate_idx'].shape", problem)


def _lengths(mask: Ints) -> Ints:
    """Ones of each row, which must come before its zeros."""
    values = ((mask == 0) | (mask == 1)).all(axis=1)
    falling = (mask[:, 1:] <= mask[:, :-1]).all(axis=1)
    if len(wrong := np.flatnonzero(~(values & falling & (mask[:, 0] == 1)))):
        problem = f"row {wrong[0]} must be ones, at least one, and then zeros: subwords first, padding after them"
        raise InvalidRequestError("inputs['attention_mask']", problem)
    lengths: Ints = mask.sum(axis=1)
    return lengths


def _check_ids(ids: Ints, mask: Ints, vocabulary: int) -> None:
    wrong = ((ids < 0) | (ids >= vocabulary)) & (mask == 1)
    if wrong.any():
        row, place = (int(index) for index in np.argwhere(wrong)[0])
        problem = f"row {row}, subword {place}: there is no id {ids[row, place]}; they go from 0 to {vocabulary - 1}"
        raise InvalidRequestError("inputs['input_ids']", problem)
