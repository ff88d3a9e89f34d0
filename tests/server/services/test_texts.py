"""Texts of one call, with a model that does what a sentence says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import pytest
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import DeadlineError, OverloadedError, UnavailableError
from kniv.server.pipeline.annotate import Ask
from kniv.server.pipeline.segment import Sentence
from kniv.server.pipeline.types import SentenceAnnotation, Timings
from kniv.server.scheduling.trail import CALL, Kind, Outcome, Trail, Trails
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services.convert import Options
from kniv.server.services.offsets import Unit
from kniv.server.services.texts import Texts
from kniv.server.together import together
from kniv.v1 import annotation_service_pb2 as calls

FAILURES: dict[str, Callable[[], Exception]] = {
    "Full.": lambda: OverloadedError("queue", 1.0),
    "Late.": lambda: DeadlineError("late"),
    "Gone.": lambda: UnavailableError("gone"),
    "Broken.": ZeroDivisionError,
}


class Model:
    """Notes what it is asked, and how many sentences at once."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.busy = self.most_busy = self.most_tasks = 0

    async def annotate(self, sentence: Sentence, index: int, ask: Ask) -> SentenceAnnotation:
        self.asked.append(ask)
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        self.most_tasks = max(len(asyncio.all_tasks()), self.most_tasks)
        try:
            await asyncio.sleep(0)
        finally:
            self.busy -= 1
        if sentence.text in FAILURES:
            raise FAILURES[sentence.text]()
        return SentenceAnnotation(index, sentence.start, sentence.text, (), (), (), None, False, Timings(0, 0, 0))


class EndedTrail(Trail):
    """Notes how it ends."""

    __slots__ = ("outcome",)

    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        assert isinstance(error, OverloadedError)
        self.outcome = outcome


def answered(model: Model, *messages: calls.TextInput, unit: Unit = Unit.CODE_POINT) -> list[calls.TextResult]:
    async def main() -> list[calls.TextResult]:
        version = SimpleNamespace(model="m", number=1)
        lease: Any = SimpleNamespace(version=version, variant="v", annotator=model)
        options = Options("", 0, "", frozenset(), unit, 1)
        texts = Texts(options, lease, Urgency(), asyncio.Semaphore(2), 2)
        found = await together(texts.answer(message, place) for place, message in enumerate(messages))
        for result, timings in found:
            assert len(timings) == len(result.annotation.sentences)
        return [result for result, _ in found]

    return asyncio.run(main())


@given(st.lists(st.lists(st.sampled_from(["One.", "Hé 😀!", "Gone.", "Broken."]), max_size=5), max_size=4))
def test_a_text_fails_alone_and_whole(texts: list[list[str]]) -> None:
    model = Model()
    results = answered(model, *(calls.TextInput(text="\n\n".join(one)) for one in texts), unit=Unit.UTF8_BYTE)
    for one, result in zip(texts, results, strict=True):
        if {"Gone.", "Broken."} & {*one}:
            assert result.error.code in (code_pb2.UNAVAILABLE, code_pb2.INTERNAL)
            continue
        text = "\n\n".join(one).encode()
        told = result.annotation.sentences
        assert [sentence.text for sentence in told] == one
        assert [text[sentence.span.start : sentence.span.end].decode() for sentence in told] == one
    assert model.most_busy <= 2


@pytest.mark.parametrize(("text", "error"), [("Full.", OverloadedError), ("Late.", DeadlineError)])
def test_what_concerns_all_texts_fails_the_call(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        answered(Model(), calls.TextInput(text="One."), calls.TextInput(text=text))


@pytest.mark.parametrize("texts", [("One.",), ("", "\n", "Two. Three.")])
def test_a_call_that_would_be_refused_is_refused_before_anything_is_done_for_it(texts: tuple[str, ...]) -> None:
    asked, trails = list[Urgency](), list[EndedTrail]()

    def check(urgency: Urgency) -> None:
        asked.append(urgency)
        raise OverloadedError("too_late", 1.0)

    class Noting(Trails):
        __slots__ = ()

        def begin(self, kind: Kind, model: str, version: int, variant: str, name: str = "") -> Trail:
            assert kind is Kind.TEXT
            trails.append(EndedTrail())
            return trails[-1]

    def play() -> None:
        CALL.set(Noting())
        lease: Any = SimpleNamespace(version=SimpleNamespace(model="m", number=1), variant="v", check=check)
        urgency = Urgency(deadline=5.0)
        call = Texts(Options("", 0, "", frozenset(), Unit.CODE_POINT, 1), lease, urgency, asyncio.Semaphore(2), 2)
        call.check([calls.TextInput(text=text) for text in ("", " \t")])
        assert not asked, "nothing is to be run"
        with pytest.raises(OverloadedError):
            call.check([calls.TextInput(text=text) for text in texts])
        assert asked == [urgency]

    copy_context().run(play)
    assert [trail.outcome for trail in trails] == [Outcome.FAILED] * len(texts)


def test_an_error_names_the_text_at_fault() -> None:
    wrong = calls.TextInput(text="One.")
    wrong.predicates.add(start=99)
    fine, bad = answered(Model(), calls.TextInput(text="Two."), wrong)
    assert fine.HasField("annotation")
    assert bad.error.code == code_pb2.INVALID_ARGUMENT and "inputs[1].predicates[0]" in bad.error.message


def test_what_is_over_the_calls_share_waits_for_room() -> None:
    model = Model()
    answered(model, calls.TextInput(text="One.\n\nTwo.\n\nThree."))
    assert [ask.urgency.patient for ask in model.asked] == [False, False, True]


def test_a_text_of_many_sentences_has_no_more_tasks_than_may_be_in_flight() -> None:
    model = Model()
    (result,) = answered(model, calls.TextInput(text="\n\n".join(["One."] * 500)))
    assert len(result.annotation.sentences) == 500
    assert model.most_tasks <= 4


def test_an_empty_previous_text_gives_no_context() -> None:
    model = Model()
    answered(model, calls.TextInput(text="One.", previous_text=""), calls.TextInput(text="Two.", previous_text="So?"))
    assert [ask.previous for ask in model.asked] == [None, "So?"]
