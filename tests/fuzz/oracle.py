"""What docs/protocol.md promises, as a model of its own: from what was sent follows what must come back."""

from __future__ import annotations

import codecs
from collections import Counter
from dataclasses import dataclass, field

from google.rpc import code_pb2

from kniv.server.pipeline.segment import sentences
from kniv.server.services.offsets import Unit, marks
from kniv.v1 import annotation_service_pb2 as calls

Request = calls.StreamAnnotationsRequest
Response = calls.StreamAnnotationsResponse
Key = tuple[str, str, int]

INVALID, EXISTS, UNKNOWN = code_pb2.INVALID_ARGUMENT, code_pb2.ALREADY_EXISTS, code_pb2.NOT_FOUND
_LONGEST = 256
REFUSED = "refused"


def key_of(reference: calls.ItemReference) -> Key:
    """An item's name, with a turn's revision."""
    return reference.turn_id, reference.document_id, reference.revision


@dataclass(eq=False)
class Expected:
    """An item that was begun.

    Attributes:
        content: its bytes so far.
        outcomes: how it may end, beside as complete.
        failed: its bytes are no UTF-8, whatever follows.
    """

    key: Key
    speaker: str = ""
    content: bytes = b""
    outcomes: set[int] = field(default_factory=set)
    failed: bool = False
    _decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def add(self, content: bytes) -> None:
        """More of it has come."""
        if self.failed:
            return
        self.content += content
        try:
            self._decoder.decode(content)
        except UnicodeDecodeError:
            self.failed = True

    def text(self) -> str | None:
        """All of it; None if it is no UTF-8."""
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            return None


class Oracle:
    """What one stream must answer.

    Args:
        ordered: whether answers come in the order of the items.
        unit: of offsets.
        open_documents: most documents that may be arriving.
    """

    def __init__(self, ordered: bool, unit: Unit, open_documents: int) -> None:
        self.ordered, self._unit, self._most = ordered, unit, open_documents
        self.items: list[Expected] = []  # in the order of their arrival
        self.refusals: list[int] = []  # codes, in the order of the messages at fault
        self._turns: dict[str, tuple[int, Expected | None]] = {}
        self._open: dict[str, Expected] = {}
        # Documents that have ended, by name, and those of which further chunks are ignored: cancelled (None), and
        # refused (REFUSED), whose name is free once its last chunk has come.
        self._closed: dict[str, Expected | str | None] = {}

    def failing(self) -> list[Expected]:
        """Open documents that cannot end well: from when they are known to, no longer arriving, is the server's."""
        return [one for one in self._open.values() if one.failed]

    def sent(self, message: Request) -> None:
        """The client has sent a message that can be parsed."""
        match message.WhichOneof("message"):
            case "turn":
                code = self._turn(message.turn)
            case "document_chunk":
                code = self._chunk(message.document_chunk)
            case "cancellation":
                code = self._cancel(message.cancellation.item)
            case _:
                code = INVALID
        self.refused(code)

    def refused(self, code: int) -> None:
        """A message was at fault; one that is not has code 0."""
        if code:
            self.refusals.append(code)

    def _turn(self, turn: calls.Turn) -> int:
        revision, _ = self._turns.get(turn.turn_id, (-1, None))
        if not 0 < len(turn.turn_id) <= _LONGEST or len(turn.speaker) > _LONGEST or turn.revision < 0:
            return INVALID
        if self.ordered and any(not one.failed for one in self._open.values()):
            return INVALID
        if turn.revision <= revision:
            return EXISTS
        _, before = self._turns.get(turn.turn_id, (-1, None))
        if before is not None:
            before.outcomes.add(calls.OUTCOME_SUPERSEDED)
        item = None
        if not turn.context_only:
            item = Expected((turn.turn_id, "", turn.revision), turn.speaker, turn.text.encode())
            self.items.append(item)
        self._turns[turn.turn_id] = turn.revision, item
        return 0

    def _chunk(self, chunk: calls.DocumentChunk) -> int:
        name = chunk.document_id
        if not 0 < len(name) <= _LONGEST:
            return INVALID
        if name not in self._open:
            if name in self._closed:
                return self._more_of_what_is_closed(name, chunk.last)
            if (self.ordered and any(not one.failed for one in self._open.values())) or len(self._open) >= self._most:
                if not chunk.last:
                    self._closed[name] = REFUSED
                return INVALID
            self._open[name] = Expected(("", name, 0))
            self.items.append(self._open[name])
        self._open[name].add(chunk.content)
        if chunk.last:
            self._closed[name] = self._open.pop(name)
        return 0

    def _more_of_what_is_closed(self, name: str, last: bool) -> int:
        closed = self._closed[name]
        if isinstance(closed, Expected):
            return EXISTS
        if last and closed == REFUSED:
            del self._closed[name]
        elif last:
            self._closed[name] = Expected(("", name, 0))  # of which nothing is asked any more
        return 0

    def _cancel(self, reference: calls.ItemReference) -> int:
        if reference.WhichOneof("item") == "turn_id" and reference.turn_id in self._turns:
            revision, item = self._turns[reference.turn_id]
            if item is not None and (not reference.HasField("revision") or reference.revision == revision):
                item.outcomes.add(calls.OUTCOME_CANCELLED)
            return 0
        name = reference.document_id
        if name in self._open:
            self._open[name].outcomes.add(calls.OUTCOME_CANCELLED)
            del self._open[name]
            self._closed[name] = None
            return 0
        if name in self._closed:
            item = self._closed[name]
            if isinstance(item, Expected):
                item.outcomes.add(calls.OUTCOME_CANCELLED)
            return 0
        return UNKNOWN

    def check(self, responses: list[Response]) -> None:
        """Hold all that has come back, by the call's end, against what must have.

        Raises:
            AssertionError: a promise is broken.
        """
        plausible(responses)
        errors = [one.error for one in responses if one.HasField("error")]
        assert [one.error.code for one in errors if not one.item_ended] == self.refusals
        for item in self.items:
            self._check_item(item, [one for one in responses if _key(one) == item.key])
        begun = {item.key for item in self.items}
        assert {_key(one) for one in responses if _ends(one) or one.HasField("sentence")} <= begun
        if self.ordered:
            order = [_key(one) for one in responses if _ends(one)]
            assert order == [item.key for item in self.items], "items ended out of order"

    def _check_item(self, item: Expected, responses: list[Response]) -> None:
        (end,) = (one for one in responses if _ends(one))
        found = {one.sentence.annotation.index: one.sentence for one in responses if one.HasField("sentence")}
        text, outcome = item.text(), end.completion.outcome
        if end.HasField("error"):
            assert text is None and end.error.error.code == INVALID, end
        else:
            assert end.completion.sentence_count == len(found)
            assert outcome in item.outcomes or (outcome == calls.OUTCOME_COMPLETE and text is not None), end
        if text is None:
            return
        expected, places = sentences(text), marks(text, self._unit)
        if outcome == calls.OUTCOME_COMPLETE:
            assert sorted(found) == list(range(len(expected))), "a sentence is missing"
        for index, result in found.items():
            one, annotation = expected[index], result.annotation
            assert annotation.text == one.text and result.speaker == item.speaker
            start, end_ = one.start, one.start + len(one.text)
            assert (annotation.span.start, annotation.span.end) == (places[start], places[end_])
            for token in annotation.tokens:
                inside = text[places.index(token.span.start) : places.index(token.span.end)]
                assert token.text == inside, "a token is not what its offsets say"


def plausible(responses: list[Response]) -> None:
    """What holds for whatever was sent: the first answer, one end an item and nothing after it, no fault of ours.

    Raises:
        AssertionError: it does not.
    """
    assert not responses or responses[0].HasField("configured")
    assert not any(one.HasField("configured") for one in responses[1:])
    ended, seen = set[Key](), Counter[tuple[Key, int]]()
    for one in responses:
        if one.HasField("error"):
            assert one.error.error.code != code_pb2.INTERNAL, one.error
        if one.HasField("sentence"):
            seen[_key(one), one.sentence.annotation.index] += 1
        if _ends(one) or one.HasField("sentence"):
            assert _key(one) not in ended, "something came after an item's end"
        if _ends(one):
            ended.add(_key(one))
    assert not seen or max(seen.values()) == 1, "a sentence came twice"
    assert {key for key, _ in seen} <= ended, "an item has no end"


def _ends(response: Response) -> bool:
    return response.HasField("completion") or (response.HasField("error") and response.error.item_ended)


def _key(response: Response) -> Key:
    kind = response.WhichOneof("message")
    assert kind is not None
    if kind == "configured":
        return "", "", -1
    return key_of(getattr(response, kind).item)
