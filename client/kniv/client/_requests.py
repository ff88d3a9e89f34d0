"""From a caller's arguments to wire messages. What is malformed is refused here, by the name of the field."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Protocol, TypeVar

from kniv.client._annotation import OffsetUnit, Task
from kniv.client._errors import InvalidRequestError
from kniv.client._options import Options, Predicates, StreamOptions, TextInput
from kniv.v1 import annotation_pb2, annotation_service_pb2

CHUNK_BYTES = 32 * 1024
_LONGEST_NAME = 256  # characters
_INT32 = 2**31 - 1
_INT64 = 2**63 - 1
_Choice = TypeVar("_Choice", bound=StrEnum)
Request = annotation_service_pb2.StreamAnnotationsRequest


class Readable(Protocol):
    """A file, binary or text."""

    def read(self, size: int, /) -> str | bytes:
        """Some more of it; empty at the end."""


Content = str | bytes | Iterable[str | bytes] | Readable
"""A document: its text, the UTF-8 bytes of it, either of them in pieces, or a file."""


def annotation_options(options: Options) -> annotation_service_pb2.AnnotationOptions:
    """The options that calls and streams share."""
    return annotation_service_pb2.AnnotationOptions(
        model=_text(options.get("model") or "", "model"),
        version=_whole(options.get("version") or 0, "version", _INT64),
        variant=_text(options.get("variant") or "", "variant"),
        tasks=_tasks(options.get("tasks") or ()),
        offset_unit=_offset_unit(options.get("offset_unit") or OffsetUnit.CODE_POINT),
        priority=_whole(options.get("priority") or 0, "priority", _INT32),
    )


def annotate_text(texts: Iterable[str | TextInput], options: Options) -> annotation_service_pb2.AnnotateTextRequest:
    """A batch of texts."""
    if isinstance(texts, str | bytes):
        raise InvalidRequestError("texts: must be a list of texts, not a single one")
    _check_names(options, Options)
    inputs = [text if isinstance(text, TextInput) else TextInput(text) for text in texts]
    return annotation_service_pb2.AnnotateTextRequest(
        inputs=[_text_input(entry, f"texts[{place}]") for place, entry in enumerate(inputs)],
        options=annotation_options(options),
    )


def stream_configuration(options: StreamOptions) -> Request:
    """First message of a stream."""
    _check_names(options, StreamOptions)
    in_order = options.get("in_order", False)
    context_turns = options.get("context_turns")
    return Request(
        configuration=annotation_service_pb2.StreamConfiguration(
            options=annotation_options(options),
            ordering=annotation_service_pb2.ORDERING_IN_ORDER if in_order else annotation_service_pb2.ORDERING_AS_READY,
            context_turns=None if context_turns is None else _whole(context_turns, "context_turns", _INT32),
        )
    )


def turn(turn_id: str, text: str, *, speaker: str, partial: bool, revision: int, predicates: Predicates) -> Request:
    """A turn, in full."""
    return Request(
        turn=annotation_service_pb2.Turn(
            turn_id=_name(turn_id, "turn_id"),
            speaker=_text(speaker, "speaker"),
            text=_text(text, "text"),
            is_partial=partial,
            revision=_whole(revision, "revision", _INT32),
            predicates=_spans(predicates, "predicates"),
        )
    )


def document_chunk(document_id: str, content: bytes, last: bool) -> Request:
    """A piece of a document."""
    chunk = annotation_service_pb2.DocumentChunk(
        document_id=_name(document_id, "document_id"), content=content, last=last
    )
    return Request(document_chunk=chunk)


def turn_cancellation(turn_id: str, revision: int | None) -> Request:
    """Gives a turn up, or one revision of it."""
    item = annotation_service_pb2.ItemReference(
        turn_id=_name(turn_id, "turn_id"), revision=None if revision is None else _whole(revision, "revision", _INT32)
    )
    return Request(cancellation=annotation_service_pb2.Cancellation(item=item))


def document_cancellation(document_id: str) -> Request:
    """Gives a document up."""
    item = annotation_service_pb2.ItemReference(document_id=_name(document_id, "document_id"))
    return Request(cancellation=annotation_service_pb2.Cancellation(item=item))


def new_id() -> str:
    """A name that no other item has."""
    return uuid.uuid4().hex


def document_pieces(content: Content) -> Iterator[tuple[bytes, bool]]:
    """Pieces of a document of at most ``CHUNK_BYTES``, each with whether it is the last.

    Text in hand is sent with as few messages as can be. Of files and iterables nobody knows whether more follows
    without waiting for it, so that their end is an empty piece of its own, and nothing is held back.
    """
    if isinstance(content, str | bytes):
        pieces = list(document_slices(content)) or [b""]
        yield from ((piece, False) for piece in pieces[:-1])
        yield pieces[-1], True
        return
    for part in _parts(content):
        yield from ((piece, False) for piece in document_slices(part))
    yield b"", True


def _parts(content: Iterable[str | bytes] | Readable) -> Iterator[str | bytes]:
    if not hasattr(content, "read"):
        yield from content
        return
    # read1, where there is one, gives what has arrived so far instead of waiting for a whole piece.
    read = getattr(content, "read1", content.read)
    while part := read(CHUNK_BYTES):
        yield part


def document_slices(part: str | bytes) -> Iterator[bytes]:
    if not isinstance(part, str | bytes):
        raise InvalidRequestError(f"document: must be made of str or bytes, not {type(part).__name__}")
    data = _text(part, "document").encode() if isinstance(part, str) else part
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _check_names(options: Options, kind: type) -> None:
    """Options come as keyword arguments, whose names nobody checks at run time."""
    for name in options.keys() - kind.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument {name!r}; there are {', '.join(kind.__annotations__)}")


def _text_input(entry: TextInput, field: str) -> annotation_service_pb2.TextInput:
    previous = entry.previous
    return annotation_service_pb2.TextInput(
        text=_text(entry.text, f"{field}.text"),
        previous_text=None if previous is None else _text(previous, f"{field}.previous"),
        predicates=_spans(entry.predicates, f"{field}.predicates"),
    )


def _name(value: str, field: str) -> str:
    """A name as the server takes it: answers to a longer one would not name it."""
    if len(_text(value, field)) > _LONGEST_NAME:
        raise InvalidRequestError(f"{field}: longer than {_LONGEST_NAME} characters")
    return value


def _text(value: str, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{field}: must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"{field}: character {error.start} is a lone surrogate, not text") from None
    return value


def _whole(value: int, field: str, maximum: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= maximum:
        raise InvalidRequestError(f"{field}: must be a whole number from 0 to {maximum}, not {value!r}")
    return value


def _spans(spans: Predicates, field: str) -> list[annotation_pb2.Span]:
    try:
        pairs = [(start, end) for start, end in spans]
    except (TypeError, ValueError):
        raise InvalidRequestError(f"{field}: must be pairs (start, end)") from None
    return [
        annotation_pb2.Span(start=_whole(start, f"{field}.start", _INT32), end=_whole(end, f"{field}.end", _INT32))
        for start, end in pairs
    ]


def _tasks(tasks: Iterable[Task | str]) -> list[str]:
    if isinstance(tasks, str):
        raise InvalidRequestError("tasks: must be a list of tasks, not a single one")
    return [f"TASK_{_choice(Task, task, 'tasks').name}" for task in tasks]


def _offset_unit(unit: OffsetUnit | str) -> str:
    return f"OFFSET_UNIT_{_choice(OffsetUnit, unit, 'offset_unit').name}"


def _choice(kind: type[_Choice], value: str, field: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequestError(f"{field}: {value!r} is none of {', '.join(kind)}") from None
