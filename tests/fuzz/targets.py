"""What is fuzzed: each target takes any bytes, and fails on whatever is not an answer or an error of ours."""

from __future__ import annotations

import asyncio
import json
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.rpc import code_pb2
from tests.fuzz.oracle import Response, plausible
from tests.fuzz.service import MODEL, Context, EndedError, host
from tests.server.services.inference.requests import row_request

from kniv.server.errors import ServeError
from kniv.server.repository.config import config_from_json, parse_config
from kniv.server.repository.labels import Labels
from kniv.server.repository.metadata import Metadata
from kniv.server.services.offsets import Ruler, Unit, length, marks, to_code_points
from kniv.v1 import annotation_pb2
from kniv.v1 import annotation_service_pb2 as calls

Target = Callable[[bytes], None]

_INTERNAL = {"INTERNAL", "UNKNOWN"}
_SIZE = struct.Struct("<H")
_MOST = 32  # messages of a stream


def framed(*messages: bytes) -> bytes:
    """Messages one after the other, each behind its size in two bytes."""
    return b"".join(_SIZE.pack(len(message)) + message for message in messages)


def _messages(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    while len(data) >= _SIZE.size and len(found) < _MOST:
        (size,) = _SIZE.unpack_from(data)
        found.append(data[_SIZE.size : _SIZE.size + size])
        data = data[_SIZE.size + size :]
    return found


def stream_annotations(data: bytes) -> None:
    """Messages of a stream, cut as :func:`framed` puts them together; the first bit makes its client leave early."""
    if data:
        leaves = bool(data[0] & 1)
        host().run(_streamed(_messages(data[1:]), leaves))


async def _streamed(messages: list[bytes], leaves: bool) -> None:
    context = Context()
    call = asyncio.ensure_future(host().methods["StreamAnnotations"].stream_stream(None, context))
    for message in messages:
        context.send(message)
        await asyncio.sleep(0)
    if leaves:
        call.cancel()
    context.half_close()
    try:
        await call
        plausible([Response.FromString(content) for content in context.written])
    except asyncio.CancelledError:
        assert leaves
    except EndedError as ended:
        assert ended.code.name not in _INTERNAL, ended
    await host().settled()


def annotate_text(data: bytes) -> None:
    """An AnnotateTextRequest."""
    answer = _unary("AnnotateText", data)
    if answer is not None:
        for result in calls.AnnotateTextResponse.FromString(answer).results:
            assert result.error.code != code_pb2.INTERNAL, result


def model_infer(data: bytes) -> None:
    """A ModelInferRequest."""
    _unary("ModelInfer", data)


def _unary(method: str, data: bytes) -> bytes | None:
    """What a call is answered; None if it ended with an error that is the caller's."""

    async def call() -> bytes | None:
        answer: bytes | None = None
        try:
            answer = await host().methods[method].unary_unary(data, Context())
        except EndedError as ended:
            assert ended.code.name not in _INTERNAL, ended
        await host().settled()
        return answer

    return host().run(call())


def config_text(data: bytes) -> None:
    """A ``config.pbtxt``."""
    with suppress(ServeError, UnicodeDecodeError):
        parse_config(data.decode("utf-8"), Path("config.pbtxt"), MODEL)


def config_json(data: bytes) -> None:
    """A configuration that a call brings along."""
    with suppress(ServeError, UnicodeDecodeError):
        config_from_json(data.decode("utf-8"), MODEL)


def json_files(data: bytes) -> None:
    """A version's ``metadata.json`` and ``labels.json``."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        for load in (Metadata.load, Labels.load):
            with suppress(ServeError):
                load(Path(file.name))


def offsets(data: bytes) -> None:
    """A text and offsets into it: what the three ways to count say must agree."""
    text = data.decode("utf-8", "ignore")
    for unit in Unit:
        places = marks(text, unit)
        assert len(places) == len(text) + 1 and places[-1] == length(text, unit)
        ruler = Ruler(unit)
        for piece in (text[: len(text) // 3], text[len(text) // 3 :]):
            ruler.feed(piece)
        cuts = sorted(byte % (len(text) + 1) for byte in data[:8])
        assert [ruler.measure(cut) for cut in cuts] == [places[cut] for cut in cuts]
        try:
            found = to_code_points([annotation_pb2.Span(start=places[cut]) for cut in cuts], text, unit, "f")
            assert found == cuts
        except ServeError:
            assert any(cut == len(text) or text[cut].isspace() for cut in cuts)


def _configured(**fields: Any) -> bytes:
    configuration = calls.StreamConfiguration(**fields)
    return calls.StreamAnnotationsRequest(configuration=configuration).SerializeToString()


def _stream_seeds() -> list[bytes]:
    request, item = calls.StreamAnnotationsRequest, calls.ItemReference(turn_id="1")
    turn = request(turn=calls.Turn(turn_id="1", text="Hello there. How are you?", revision=1)).SerializeToString()
    later = request(turn=calls.Turn(turn_id="1", text="Hé 😀!", revision=2, is_partial=True)).SerializeToString()
    cancel = request(cancellation=calls.Cancellation(item=item)).SerializeToString()
    halves = [
        request(document_chunk=calls.DocumentChunk(document_id="d", content=content, last=last)).SerializeToString()
        for content, last in ((b"One caf\xc3", False), (b"\xa9. Two.", True))
    ]
    return [
        b"\0" + framed(_configured(), turn, later, cancel),
        b"\0" + framed(_configured(ordering=calls.ORDERING_IN_ORDER, context_turns=1), *halves, turn),
        b"\1" + framed(_configured(), turn, halves[0]),
        b"\0" + framed(turn),
    ]


def _text_seeds() -> list[bytes]:
    inputs = [calls.TextInput(text="Hello there. Hé 😀!", previous_text="Who is it?"), calls.TextInput()]
    options = calls.AnnotationOptions(tasks=[1, 2], offset_unit=2, priority=1)
    return [calls.AnnotateTextRequest(inputs=inputs, options=options, request_id="r").SerializeToString()]


def _tensor_seeds() -> list[bytes]:
    seeds = [row_request([[1, 2, 3, 4], [5, 6]])]
    seeds[0].model_name = MODEL
    return [one.SerializeToString() for one in seeds]


_CONFIG = b"""name: "kniv-mini" max_batch_size: 8
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { priority_levels: 2 default_priority_level: 1 max_queue_delay_microseconds: 100
  priority_queue_policy { key: 1 value { max_queue_size: 5 timeout_action: DELAY } } }
parameters { key: "threads" value { string_value: "1" } }
"""

TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "stream": (stream_annotations, _stream_seeds()),
    "text": (annotate_text, _text_seeds()),
    "tensors": (model_infer, _tensor_seeds()),
    "config-text": (config_text, [_CONFIG]),
    "config-json": (config_json, [b'{"name": "kniv-mini", "max_batch_size": 8, "dynamic_batching": {}}']),
    "json-files": (json_files, [json.dumps({"max_subwords": 64}).encode(), b'{"pos": ["A"]}']),
    "offsets": (offsets, ["Hé 😀, naïve  text".encode()]),
}
