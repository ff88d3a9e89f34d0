"""What the ledger of a stream is made of: items, steps, and the names by which answers refer to them."""

from __future__ import annotations

from dataclasses import dataclass, field

from kniv.client._errors import reason_of
from kniv.client._requests import Request
from kniv.v1 import annotation_service_pb2 as wire
from kniv.v1 import status_pb2

Response = wire.StreamAnnotationsResponse
Key = tuple[str, str, int]
"""Kind, name and revision of an item."""
_OVERHEAD = 256  # bytes of a message beside its content, roughly
UNAVAILABLE = 14
_HANDED_BACK = "STOPPING"  # ErrorInfo's reason: the server had no time left for it
_ALREADY_EXISTS = 6


class Seen:
    """Which sentences of an item have come: few numbers, for most come nearly in order."""

    def __init__(self) -> None:
        self._below = 0
        self._beyond: set[int] = set()

    def add(self, index: int) -> bool:
        """Note one; whether it is new."""
        if index < self._below or index in self._beyond:
            return False
        self._beyond.add(index)
        while self._below in self._beyond:
            self._beyond.remove(self._below)
            self._below += 1
        return True

    def count(self) -> int:
        """How many have come."""
        return self._below + len(self._beyond)


@dataclass(slots=True, eq=False)
class Item:
    """A turn or document that has been sent, to its last chunk if it is ``whole``.

    ``step`` is a turn's place in the log. ``messages`` are a document's, as long as they are ``kept``; ``size`` is
    theirs. ``lost`` documents cannot be sent again. An item that is ``over`` has ended or, if ``refused``, was never
    begun.
    """

    key: Key
    place: int
    step: Step | None = None
    messages: list[Request] = field(default_factory=list)
    size: int = 0
    whole: bool = True
    kept: bool = True
    lost: bool = False
    over: bool = False
    refused: bool = False
    cancelled: bool = False
    sent_again: bool = False
    seen: Seen = field(default_factory=Seen)


@dataclass(slots=True, eq=False)
class Step:
    """A turn, or the cancellation of one, at its place in the log."""

    place: int
    item: Item
    request: Request | None
    size: int

    @property
    def cancels(self) -> bool:
        """Whether it is a cancellation."""
        return self.request is not None and self.request.HasField("cancellation")


def refusal(request: Request) -> Response:
    """The answer to a message whose name has been used."""
    if request.HasField("turn"):
        turn = request.turn
        problem = f"turn.turn_id: {turn.turn_id!r} came before; raise the revision to replace it or choose another name"
        return failure(("turn", turn.turn_id, turn.revision), _ALREADY_EXISTS, problem, ended=False)
    name = request.document_chunk.document_id
    problem = f"document_chunk.document_id: document {name!r} has ended; choose another name"
    return failure(("document", name, 0), _ALREADY_EXISTS, problem, ended=False)


def failure(key: Key, code: int, message: str, *, ended: bool) -> Response:
    """An error of an item; ``ended`` as on the wire."""
    kind, name, revision = key
    turn = kind == "turn"
    reference = wire.ItemReference(turn_id=name, revision=revision) if turn else wire.ItemReference(document_id=name)
    status = status_pb2.Status(code=code, message=message)
    return Response(error=wire.ItemError(item=reference, error=status, item_ended=ended))


def key_of(reference: wire.ItemReference) -> Key | None:
    """The item that a reference names."""
    match reference.WhichOneof("item"):
        case "turn_id":
            return ("turn", reference.turn_id, reference.revision)
        case "document_id":
            return ("document", reference.document_id, 0)
        case _:
            return None


def is_exact(reference: wire.ItemReference) -> bool:
    """Whether the reference may be a sent item's own; that of a cancellation may lack the revision."""
    return reference.WhichOneof("item") == "document_id" or reference.HasField("revision")


def is_handed_back(response: Response) -> bool:
    """Whether an item has ended only because its server stops."""
    return response.HasField("error") and response.error.item_ended and reason_of(response.error.error) == _HANDED_BACK


def stray_key(reference: wire.ItemReference) -> Key:
    """The cancellation of an item that the stream has not had."""
    revision = reference.revision if reference.HasField("revision") else -1
    return (f"cancellation of {reference.WhichOneof('item')}", reference.turn_id or reference.document_id, revision)


def size_of(request: Request) -> int:
    """What a message takes, in bytes."""
    return request.ByteSize() + _OVERHEAD
