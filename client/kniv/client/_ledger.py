"""What a stream has sent and the server has not answered in full: kept, so that it can be sent again.

A turn is kept until it ends, and then what the context of later turns needs of it. A document is kept until it ends,
unless there is no room for one that is still being sent. The messages of the log are in the order of their sending,
so that another server comes to the same contexts; those that have an answer are marked as context only.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from kniv.client._context import Context
from kniv.client._names import Names
from kniv.client._records import (
    UNAVAILABLE,
    Item,
    Key,
    Response,
    Step,
    failure,
    is_exact,
    is_handed_back,
    key_of,
    size_of,
    stray_key,
)
from kniv.client._requests import Request
from kniv.v1 import annotation_service_pb2 as wire


class Verdict(Enum):
    """What becomes of the next message."""

    SEND = auto()
    HOLD = auto()  # until something has been answered
    SKIP = auto()  # the server would not heed it
    REFUSE = auto()  # the name has been used


class Ledger:
    """What has to be sent again if the connection breaks.

    Args:
        configuration: the stream's.
        max_bytes: largest size of it all.
    """

    def __init__(self, configuration: Request, max_bytes: int) -> None:
        settings = configuration.configuration
        self._ordered = settings.ordering == wire.ORDERING_IN_ORDER
        self._max_bytes = max_bytes
        self._context = Context(settings.context_turns if settings.HasField("context_turns") else 1)
        self._names = Names()
        self._pending: dict[Key, Item] = {}
        self._revisions: dict[str, list[Item]] = {}  # turns of _pending by name, the newest last
        self._log: deque[Step] = deque()
        self._strays: dict[Key, Step] = {}  # cancellations of what the stream has not had
        self._told: set[Key] = set()  # sent as context alone
        self._returned: list[Response] = []  # of this connection, from the first item on that was handed back
        self._held = self._places = 0

    @property
    def unanswered(self) -> int:
        """Items without an end."""
        return len(self._pending)

    @property
    def idle(self) -> bool:
        """Whether no answer is awaited."""
        return not self._pending and not self._strays

    def take(self, request: Request) -> Verdict:
        """The next message to be sent; with ``SEND`` it is kept."""
        match request.WhichOneof("message"):
            case "turn":
                return self._take_turn(request)
            case "document_chunk":
                return self._take_chunk(request)
            case _:
                return self._take_cancellation(request)

    def receive(self, response: Response) -> Response | None:
        """A response; what of it is news.

        What a server that stops hands back without an answer is none: once the connection ends, it is sent again. In
        a stream that is in order, neither is what comes after it.
        """
        if is_handed_back(response) or (self._ordered and self._returned):
            self._returned.append(response)
            return None
        return self._received(response)

    def returned(self) -> list[Response]:
        """What was handed back, and will not be sent again: the stream is over."""
        news = [self._received(response) for response in self._returned]
        self._returned = []
        return [response for response in news if response is not None]

    def _received(self, response: Response) -> Response | None:
        kind = response.WhichOneof("message")
        reference: wire.ItemReference = getattr(response, kind or "completion").item
        key = key_of(reference)
        item = self._pending.get(key) if key is not None else None
        if kind == "error" and not response.error.item_ended:
            return self._refused(response, item if is_exact(reference) else None)
        if item is None:
            if kind == "completion":
                self._strays.pop(stray_key(reference), None)
            return None if key in self._told else response
        if kind == "sentence":
            return response if item.seen.add(response.sentence.annotation.index) else None
        item.cancelled = kind == "completion" and response.completion.outcome == wire.OUTCOME_CANCELLED
        if kind == "completion" and item.sent_again:
            response.completion.sentence_count = item.seen.count()
        self._end(item)
        return response

    def broke(self) -> None:
        """The connection is gone, and with it the documents that are not kept."""
        self._returned = []
        for item in self._pending.values():
            item.lost = item.lost or not item.kept

    def take_losses(self) -> list[Response]:
        """The ends of lost documents, at their place in the order of the stream."""
        failures = []
        for item in list(self._pending.values()):
            if item.lost:
                self._end(item)
                problem = (
                    "the connection broke while the document was being sent, and it was too long to be kept"
                    f" ({self._max_bytes} bytes of unanswered items are): send it again, or give Reconnect a larger"
                    " max_held_bytes"
                )
                failures.append(failure(item.key, UNAVAILABLE, problem, ended=True))
            elif self._ordered:
                break
        return failures

    def replay(self) -> list[Request]:
        """What another server needs, after the configuration and before what comes next."""
        requests = self._context.requests()
        self._told = {("turn", request.turn.turn_id, request.turn.revision) for request in requests}
        steps: list[tuple[int, list[Request]]] = []
        for step in self._log:
            item = step.item
            if step.request is None or item.refused:
                continue
            if item.over and not step.cancels:
                self._told.add(item.key)
            elif item.over and not (item.cancelled and item.key in self._told):
                continue  # it came too late, or there is nothing that it could take back
            steps.append((step.place, [step.request]))
        for item in self._pending.values():
            item.sent_again = True
            if item.key[0] == "document":
                steps.append((item.place, item.messages))
        steps += [(step.place, [step.request]) for step in self._strays.values() if step.request is not None]
        for _, messages in sorted(steps, key=lambda step: step[0]):
            requests += messages
        return requests

    def _take_turn(self, request: Request) -> Verdict:
        turn, size = request.turn, size_of(request)
        revisions = self._revisions.get(turn.turn_id, [])
        if revisions and revisions[-1].key[2] >= turn.revision:
            return Verdict.HOLD  # the server refuses it if it has taken the earlier one
        if self._names.turn_used(turn.turn_id, turn.revision):
            return Verdict.REFUSE
        if not self._has_room(size):
            return Verdict.HOLD
        item = self._add(("turn", turn.turn_id, turn.revision))
        self._revisions.setdefault(turn.turn_id, []).append(item)
        item.step = Step(item.place, item, request, size)
        self._log.append(item.step)
        self._held += size
        return Verdict.SEND

    def _take_chunk(self, request: Request) -> Verdict:
        chunk, size = request.document_chunk, size_of(request)
        key = ("document", chunk.document_id, 0)
        item = self._pending.get(key)
        if item is None:
            if self._names.passes_over(chunk.document_id):
                if chunk.last:
                    self._names.document_ended(chunk.document_id, whole=True)
                return Verdict.SKIP
            if self._names.document_known(chunk.document_id):
                return Verdict.REFUSE
            if not self._has_room(size):
                return Verdict.HOLD
            item = self._add(key)
        elif item.whole:
            return Verdict.HOLD
        else:
            self._has_room(size)  # if there is none, this document is no more among those kept
        item.whole = chunk.last
        if item.lost or item.cancelled:
            return Verdict.SKIP
        if item.kept:
            self._keep(item, request)
        return Verdict.SEND

    def _take_cancellation(self, request: Request) -> Verdict:
        reference = request.cancellation.item
        if reference.WhichOneof("item") == "turn_id":
            name = reference.turn_id
            if revisions := self._revisions.get(name):
                newest = revisions[-1]
                if reference.HasField("revision") and reference.revision != newest.key[2]:
                    return Verdict.SKIP
                size = size_of(request)
                self._log.append(Step(self._next_place(), newest, request, size))
                self._held += size
                return Verdict.SEND
            known = self._names.turn_known(name)
        else:
            name = reference.document_id
            if item := self._pending.get(("document", name, 0)):
                return self._cancel_document(item, request)
            known = self._names.document_known(name)
        if known:
            return Verdict.SKIP
        key = stray_key(reference)
        if key in self._strays:
            return Verdict.HOLD
        self._strays[key] = Step(self._next_place(), Item(key, 0), request, 0)
        return Verdict.SEND

    def _cancel_document(self, item: Item, request: Request) -> Verdict:
        if item.lost or item.cancelled:
            return Verdict.SKIP
        if not item.whole:
            # Its text is wanted no more. It still ends once, so that it is opened and cancelled if sent again.
            self._drop(item)
            item.cancelled = item.kept = True
            self._keep(item, Request(document_chunk=wire.DocumentChunk(document_id=item.key[1])))
        if item.kept:
            self._keep(item, request)
        return Verdict.SEND

    def _refused(self, response: Response, item: Item | None) -> Response | None:
        """A message was refused: the first of those that the refusal may mean."""
        if item is not None:
            item.refused = True
            self._end(item)
            return response
        reference = response.error.item
        stray = self._strays.pop(stray_key(reference), None) is not None
        # Of what only the servers before have known, nothing is to be said.
        known = key_of(reference) in self._told or self._names.turn_known(reference.turn_id)
        return response if stray or not known else None

    def _add(self, key: Key) -> Item:
        self._pending[key] = item = Item(key, self._next_place())
        return item

    def _end(self, item: Item) -> None:
        item.over = True
        del self._pending[item.key]
        kind, name, revision = item.key
        if kind == "document":
            self._drop(item)
            self._names.document_ended(name, whole=item.whole)
            return
        self._revisions[name].remove(item)
        if not self._revisions[name]:
            del self._revisions[name]
        if not item.refused:
            self._names.turn_ended(name, revision)
        if item.step is not None:
            self._shrink(item.step)
        self._fold()

    def _shrink(self, step: Step) -> None:
        """Keep of a turn that is over what gives context."""
        if step.request is not None:
            step.request = None if step.item.refused else self._context.reduced(step.request.turn)
        before, step.size = step.size, 0 if step.request is None else size_of(step.request)
        self._held += step.size - before

    def _fold(self) -> None:
        """The beginning of the log that is over goes into the context."""
        while self._log and self._log[0].item.over:
            step = self._log.popleft()
            self._held -= step.size
            if step.request is None or step.item.refused:
                continue
            if not step.cancels:
                self._context.learn(step.request.turn)
            elif step.item.cancelled:
                self._context.forget(step.item.key[1])

    def _has_room(self, size: int) -> bool:
        """Whether something may be kept; documents that are still being sent make room for it."""
        while self._held + size > self._max_bytes:
            arriving = [item for item in self._pending.values() if item.kept and not item.whole and not item.cancelled]
            if not arriving:
                return not self._held
            largest = max(arriving, key=lambda item: item.size)
            self._drop(largest)
            largest.kept = False
        return True

    def _keep(self, item: Item, request: Request) -> None:
        item.messages.append(request)
        size = size_of(request)
        item.size += size
        self._held += size

    def _drop(self, item: Item) -> None:
        self._held -= item.size
        item.messages, item.size = [], 0

    def _next_place(self) -> int:
        self._places += 1
        return self._places
