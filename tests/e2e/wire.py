"""Short forms of wire messages for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls

Request: TypeAlias = calls.StreamAnnotationsRequest
Response: TypeAlias = calls.StreamAnnotationsResponse


def configuration(**fields: object) -> Request:
    options = calls.AnnotationOptions(**fields.pop("options", {}))  # type: ignore[arg-type]
    return Request(configuration=calls.StreamConfiguration(options=options, **fields))  # type: ignore[arg-type]


def turn(turn_id: str, text: str, **fields: object) -> Request:
    return Request(turn=calls.Turn(turn_id=turn_id, text=text, **fields))  # type: ignore[arg-type]


def chunk(document_id: str, content: bytes, last: bool = False) -> Request:
    return Request(document_chunk=calls.DocumentChunk(document_id=document_id, content=content, last=last))


def chunks(document_id: str, content: bytes, size: int) -> list[Request]:
    """A document cut every ``size`` bytes, wherever that falls."""
    pieces = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    return [chunk(document_id, piece, place == len(pieces) - 1) for place, piece in enumerate(pieces)]


def name_of(reference: calls.ItemReference) -> str:
    return reference.turn_id or reference.document_id


def sentences_of(responses: Iterable[Response], name: str) -> list[wire.SentenceAnnotation]:
    """An item's sentences in the order of the text."""
    found = [r.sentence.annotation for r in responses if r.HasField("sentence") and name_of(r.sentence.item) == name]
    return sorted(found, key=lambda annotation: annotation.index)


def completions(responses: Iterable[Response]) -> dict[str, calls.ItemCompletion]:
    return {name_of(r.completion.item): r.completion for r in responses if r.HasField("completion")}


def errors(responses: Iterable[Response]) -> list[calls.ItemError]:
    return [r.error for r in responses if r.HasField("error")]


def answer(annotation: wire.SentenceAnnotation) -> wire.SentenceAnnotation:
    """An annotation without what differs from run to run."""
    copy = wire.SentenceAnnotation.FromString(annotation.SerializeToString())
    copy.ClearField("timings")
    return copy
