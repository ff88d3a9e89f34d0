"""Raw requests for the tests, and mistakes to make in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from kniv.server.runtime.session import INPUTS
from kniv.server.services.inference.tensors import Bounds

Ints = NDArray[np.int64]

BOUNDS = Bounds(rows=4, subwords=9, vocabulary=50)


@dataclass(frozen=True)
class Sample:
    """A request and the values that it was made of."""

    message: pb.ModelInferRequest
    ids: Ints
    lengths: Ints
    predicates: Ints


def request_of(
    ids: Ints, mask: Ints, predicates: Ints, *, raw: bool = True, order: tuple[str, ...] = INPUTS
) -> pb.ModelInferRequest:
    """A request for the model ``tiny``."""
    values = dict(zip(INPUTS, (ids, mask, predicates), strict=True))
    message = pb.ModelInferRequest(model_name="tiny")
    for name in order:
        tensor = message.inputs.add(name=name, datatype="INT64", shape=values[name].shape)
        if raw:
            message.raw_input_contents.append(values[name].tobytes())
        else:
            tensor.contents.int64_contents.extend(values[name].ravel().tolist())
    return message


def row_request(rows: list[list[int]], predicates: list[int] | None = None) -> pb.ModelInferRequest:
    """A request with these rows of ids, padded to the longest."""
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return request_of(ids, mask, np.array(predicates or [0] * len(rows), dtype=np.int64))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any request that is right: with whatever ids beyond the rows' lengths."""
    rows, subwords = draw(st.integers(1, BOUNDS.rows)), draw(st.integers(1, BOUNDS.subwords))
    lengths = np.array(draw(st.lists(st.integers(1, subwords), min_size=rows, max_size=rows)))
    mask = (np.arange(subwords) < lengths[:, None]).astype(np.int64)
    size = rows * subwords
    within = st.lists(st.integers(0, BOUNDS.vocabulary - 1), min_size=size, max_size=size)
    beyond = st.integers(-(1 << 63), (1 << 63) - 1)
    ids = np.array(draw(within), dtype=np.int64).reshape(rows, subwords)
    ids[mask == 0] = draw(beyond)
    predicates = np.array([draw(st.integers(0, int(length) - 1)) for length in lengths], dtype=np.int64)
    order = tuple(draw(st.permutations(INPUTS)))
    message = request_of(ids, mask, predicates, raw=draw(st.booleans()), order=order)
    return Sample(message, ids, lengths, predicates)


Spoil = Callable[[pb.ModelInferRequest], str]


def _place(message: pb.ModelInferRequest, name: str) -> int:
    return [tensor.name for tensor in message.inputs].index(name)


def _values(message: pb.ModelInferRequest, name: str) -> Ints:
    place = _place(message, name)
    tensor = message.inputs[place]
    flat = (
        np.frombuffer(message.raw_input_contents[place], np.int64)
        if message.raw_input_contents
        else np.array(tensor.contents.int64_contents, dtype=np.int64)
    )
    return flat.reshape(tuple(tensor.shape)).copy()


def _put(message: pb.ModelInferRequest, name: str, values: Ints) -> None:
    place = _place(message, name)
    message.inputs[place].shape[:] = values.shape
    if message.raw_input_contents:
        message.raw_input_contents[place] = values.tobytes()
    else:
        message.inputs[place].contents.int64_contents[:] = values.ravel().tolist()


def _cell(name: str, value: Callable[[pb.ModelInferRequest], int]) -> Spoil:
    """Put a wrong value in a tensor's last row, where every row has its first subword."""

    def spoil(message: pb.ModelInferRequest) -> str:
        values = _values(message, name)
        values[(-1, 0) if values.ndim == 2 else -1] = value(message)
        _put(message, name, values)
        return name

    return spoil


def _of(name: str, spoil: Callable[[pb.ModelInferRequest, int], None]) -> Spoil:
    def apply(message: pb.ModelInferRequest) -> str:
        spoil(message, _place(message, name))
        return name

    return apply


def _datatype(message: pb.ModelInferRequest, place: int) -> None:
    message.inputs[place].datatype = "INT32"


def _rank(message: pb.ModelInferRequest, place: int) -> None:
    message.inputs[place].shape.append(1)


def _empty(message: pb.ModelInferRequest, place: int) -> None:
    message.inputs[place].shape[0] = 0


def _negative(message: pb.ModelInferRequest, place: int) -> None:
    # Two wrongs must not make a right size.
    for axis in range(len(message.inputs[place].shape)):
        message.inputs[place].shape[axis] *= -1


def _size(message: pb.ModelInferRequest, place: int) -> None:
    if message.raw_input_contents:
        message.raw_input_contents[place] += b"\0"
    else:
        message.inputs[place].contents.int64_contents.append(0)


def _both(message: pb.ModelInferRequest, place: int) -> None:
    if message.raw_input_contents:
        message.inputs[place].contents.int64_contents.append(0)
    else:
        message.inputs[place].contents.fp32_contents.append(0)


def _parameter(message: pb.ModelInferRequest, place: int) -> None:
    message.inputs[place].parameters["binary_data_size"].int64_param = 8


def _unknown(message: pb.ModelInferRequest, place: int) -> None:
    message.inputs[place].name += "s"


def _missing(message: pb.ModelInferRequest, place: int) -> None:
    del message.inputs[place]
    if message.raw_input_contents:
        del message.raw_input_contents[place]


def _twice(message: pb.ModelInferRequest, place: int) -> None:
    message.inputs.append(message.inputs[place])
    if message.raw_input_contents:
        message.raw_input_contents.append(message.raw_input_contents[place])


def _shorter(message: pb.ModelInferRequest, place: int) -> None:
    values = _values(message, message.inputs[place].name)
    _put(message, message.inputs[place].name, np.concatenate([values, values[:1]]))


def _rows(message: pb.ModelInferRequest) -> str:
    for name in INPUTS:
        values = _values(message, name)
        _put(message, name, np.concatenate([values[:1]] * (BOUNDS.rows + 1)))
    return "input_ids"


def _subwords(message: pb.ModelInferRequest) -> str:
    for name in ("input_ids", "attention_mask"):
        values = _values(message, name)
        _put(message, name, np.pad(values, ((0, 0), (0, BOUNDS.subwords))))
    return "input_ids"


def _hole(message: pb.ModelInferRequest) -> str:
    mask = _values(message, "attention_mask")
    mask[0] = 1
    mask[0, 0] = 0
    _put(message, "attention_mask", mask)
    return "attention_mask"


def _length(message: pb.ModelInferRequest) -> int:
    return int(_values(message, "attention_mask")[-1].sum())


MISTAKES: dict[str, Spoil] = {
    "an id below the vocabulary": _cell("input_ids", lambda _: -1),
    "an id beyond the vocabulary": _cell("input_ids", lambda _: BOUNDS.vocabulary),
    "a mask of twos": _cell("attention_mask", lambda _: 2),
    "a mask that begins with padding": _hole,
    "a predicate before the row": _cell("predicate_idx", lambda _: -1),
    "a predicate behind the row": _cell("predicate_idx", _length),
    "too many rows": _rows,
    "too many subwords": _subwords,
    "fewer rows of ids than of the mask": _of("attention_mask", _shorter),
    "fewer rows than predicates": _of("predicate_idx", _shorter),
    **{
        f"{spoil.__name__[1:]} {name}": _of(name, spoil)
        for name in INPUTS
        for spoil in (_datatype, _rank, _empty, _size, _both, _parameter, _unknown, _missing, _twice)
    },
    **{f"negative {name}": _of(name, _negative) for name in INPUTS},
}
