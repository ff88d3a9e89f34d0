"""A model of the server, and connections to it that break at any point."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count

from kniv.client import Reconnect, UnavailableError
from kniv.client._exchange import Exchange
from kniv.client._reconnect import Backoff
from kniv.client._requests import stream_configuration
from kniv.server.services.history import History
from kniv.v1 import annotation_pb2, annotation_service_pb2, status_pb2

Request = annotation_service_pb2.StreamAnnotationsRequest
Response = annotation_service_pb2.StreamAnnotationsResponse
Reference = annotation_service_pb2.ItemReference
UNAVAILABLE = UnavailableError("gone")
STOPPING = b"\n\x08STOPPING"  # ErrorInfo with its reason alone


@dataclass(eq=False)
class Work:
    """An item at the model: what it still has to answer."""

    reference: Reference
    arrival: int = 0
    answers: deque[Response] = field(default_factory=deque)
    sent: int = 0
    stopped: bool = False
    ended: bool = False
    context_only: bool = False


class Model:
    """A server's rules, one connection long: answers are drawn from the items under way, in the order asked for."""

    def __init__(self, chance: random.Random, ordered: bool, context_turns: int) -> None:
        self.chance, self.ordered = chance, ordered
        self.work: list[Work] = []
        self.refusals: deque[Response] = deque()
        self.turns: dict[str, Work] = {}
        self.documents: dict[str, tuple[Work, list[bytes]]] = {}
        self.closed_documents: dict[str, bool] = {}
        self.history = History(context_turns)
        self.arrivals = count(1)

    def take(self, request: Request) -> None:
        kind = request.WhichOneof("message")
        if kind == "turn":
            self.take_turn(request.turn)
        elif kind == "document_chunk":
            self.take_chunk(request.document_chunk)
        elif kind == "cancellation":
            self.cancel(request.cancellation.item)

    def take_turn(self, turn):
        reference = Reference(turn_id=turn.turn_id, revision=turn.revision)
        if turn.text == "refuse":
            return self.refuse(reference, 3)
        before = self.turns.get(turn.turn_id)
        if before is not None and before.reference.revision >= turn.revision:
            return self.refuse(reference, 6)
        if before is not None:
            self.stop(before, annotation_service_pb2.OUTCOME_SUPERSEDED)
        work = Work(reference, before.arrival if before is not None else next(self.arrivals))
        self.turns[turn.turn_id] = work
        context = self.history.before(work.arrival) or ""
        if not turn.is_partial:
            self.history.add(work.arrival, turn.text)
        if turn.context_only:
            work.ended = work.context_only = True
            return None
        return self.begin(work, turn.text, turn.speaker, context)

    def take_chunk(self, chunk):
        name = chunk.document_id
        reference = Reference(document_id=name)
        if name not in self.documents:
            if name in self.closed_documents:
                return None if self.closed_documents[name] else self.refuse(reference, 6)
            self.documents[name] = (Work(reference), [])
        content = self.documents[name][1]
        content.append(chunk.content)
        if chunk.last:
            self.end_document(name)
        return None

    def half_close(self):
        for name in list(self.documents):
            self.end_document(name)

    def end_document(self, name):
        work, content = self.documents.pop(name)
        self.closed_documents[name] = False
        self.begin(work, b"".join(content).decode(), "", "")

    def cancel(self, reference):
        if reference.turn_id in self.turns:
            work = self.turns[reference.turn_id]
            if reference.HasField("revision") and reference.revision != work.reference.revision:
                return
            if self.stop(work, annotation_service_pb2.OUTCOME_CANCELLED) or work.context_only:
                self.history.remove(work.arrival)
        elif reference.document_id in self.documents:
            work, _ = self.documents.pop(reference.document_id)
            self.closed_documents[reference.document_id] = True
            self.begin(work, "", "", "")
            self.stop(work, annotation_service_pb2.OUTCOME_CANCELLED)
        elif reference.document_id not in self.closed_documents:
            self.refuse(reference, 5)

    def refuse(self, reference, code):
        status = status_pb2.Status(code=code, message="refused")
        self.refusals.append(Response(error=annotation_service_pb2.ItemError(item=reference, error=status)))

    def begin(self, work, text, speaker, context):
        texts = text.split()
        for index, word in enumerate(texts):
            annotation = annotation_pb2.SentenceAnnotation(index=index, text=f"{context}|{word}")
            work.answers.append(
                Response(
                    sentence=annotation_service_pb2.SentenceResult(
                        item=work.reference, annotation=annotation, speaker=speaker
                    )
                )
            )
        if text == "fail":
            status = status_pb2.Status(code=13, message="failed")
            error = annotation_service_pb2.ItemError(item=work.reference, error=status, item_ended=True)
            work.answers = deque([Response(error=error)])
        else:
            done = annotation_service_pb2.ItemCompletion(
                item=work.reference, outcome=annotation_service_pb2.OUTCOME_COMPLETE, sentence_count=len(texts)
            )
            work.answers.append(Response(completion=done))
        self.work.append(work)

    def stop(self, work, outcome) -> bool:
        """End an item early; whether it was still wanted."""
        if work.ended or work.stopped:
            return False
        work.stopped = True
        done = annotation_service_pb2.ItemCompletion(item=work.reference, outcome=outcome, sentence_count=work.sent)
        work.answers = deque([Response(completion=done)])
        return True

    def hand_back(self) -> list[Response]:
        """End all that has no end yet, as a server does whose time is up; some of it may have been finished."""
        half_close, self.documents = list(self.documents.values()), {}
        ends = []
        for work in [*self.work, *(work for work, _ in half_close)]:
            if self.ordered and self.chance.random() < 0.3 and ends and work.answers:
                ends += work.answers  # it was waiting for the one before
                continue
            status = status_pb2.Status(code=14, message="stopping")
            status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=STOPPING)
            ends.append(
                Response(error=annotation_service_pb2.ItemError(item=work.reference, error=status, item_ended=True))
            )
        self.work = []
        return ends

    def answer(self) -> Response | None:
        if self.refusals:
            return self.refusals.popleft()
        if not self.work:
            return None
        work = self.work[0] if self.ordered else self.chance.choice(self.work)
        if not self.ordered and len(work.answers) > 1:
            place = self.chance.randrange(len(work.answers) - 1)
            response = work.answers[place]
            del work.answers[place]
        else:
            response = work.answers.popleft()
        work.sent += response.HasField("sentence")
        if not work.answers:
            work.ended = True
            self.work.remove(work)
        return response


class Wire:
    """Carries messages between a stream's exchange and a model, in any interleaving, and breaks as often as told."""

    def __init__(self, script, chance, *, ordered, context_turns, breaks, max_held_bytes=1 << 26) -> None:
        configuration = stream_configuration({"in_order": ordered, "context_turns": context_turns})
        policy = Reconnect(patience_s=1e9, max_held_bytes=max_held_bytes)
        self.exchange = Exchange(configuration, 1 << 26, policy, Backoff(policy, lambda: 0.0, chance.random))
        self.script, self.chance, self.breaks = deque(script), chance, breaks
        self.ordered, self.context_turns = ordered, context_turns
        self.events: list[Response] = []

    def run(self) -> list[Response]:
        self.call()
        while not self.exchange.ended:
            self.step()
        while True:
            try:
                self.events.append(self.exchange.try_take("reader"))
            except EOFError:
                return self.events

    def call(self) -> None:
        self.number = self.exchange.begin()
        self.model = Model(self.chance, self.ordered, self.context_turns)
        self.upward: deque[Request] = deque()
        self.downward: deque[Response] = deque()
        self.finished = self.half_closed = self.answered = False

    def step(self) -> None:
        chosen = self.chance.choices(
            [self.send, self.write, self.arrive, self.compute, self.read, self.break_off], [4, 6, 6, 6, 6, 1]
        )[0]
        chosen()
        if self.half_closed and not (self.downward or self.model.work or self.model.refusals):
            self.exchange.end(None)

    def send(self) -> None:
        if not self.answered:
            return
        if not self.script:
            self.exchange.close_input()
        elif self.exchange.try_offer(self.script[0], "sender"):
            self.script.popleft()

    def write(self) -> None:
        try:
            taken = self.exchange.try_next_request(self.number)
        except EOFError:
            if not self.finished:
                self.finished = True
                self.upward.append(None)
            return
        if taken is not None and taken.request is not None:
            self.upward.append(taken.request)

    def arrive(self) -> None:
        if self.upward and not self.half_closed:
            request = self.upward.popleft()
            if request is None:
                self.half_closed = True
                self.model.half_close()
                self.upward.clear()
            elif request.HasField("configuration"):
                self.downward.append(Response(configured=annotation_service_pb2.StreamConfigured()))
            else:
                self.model.take(request)

    def compute(self) -> None:
        if (response := self.model.answer()) is not None:
            self.downward.append(response)

    def read(self) -> None:
        if self.downward:
            self.answered = True
            self.exchange.deliver(self.downward.popleft())

    def break_off(self) -> None:
        if self.breaks and self.answered:
            self.breaks -= 1
            if self.chance.random() < 0.5:
                while self.downward:
                    self.read()
                self.downward.extend(self.model.hand_back())
                while self.downward:
                    self.read()
            assert self.exchange.broke(UNAVAILABLE) is not None
            while not self.exchange.try_resume():
                self.send()
            if not self.exchange.ended:
                self.call()


def reference_of(response: Response) -> tuple[str, int, bool]:
    item = getattr(response, response.WhichOneof("message")).item
    return item.turn_id or item.document_id, item.revision, item.HasField("document_id")


def by_item(events):
    """Sentences and ends of every item, as sets and lists that do not depend on the interleaving."""
    found: dict = {}
    for event in events:
        kind = event.WhichOneof("message")
        sentences, ends = found.setdefault(reference_of(event), ([], []))
        if kind == "sentence":
            sentences.append((event.sentence.annotation.index, event.sentence.annotation.text, event.sentence.speaker))
        elif kind == "completion":
            ends.append((event.completion.outcome, event.completion.sentence_count))
        else:
            ends.append((event.error.error.code, event.error.item_ended))
    return {name: (sorted(sentences), sorted(ends)) for name, (sentences, ends) in found.items()}
