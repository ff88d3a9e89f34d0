"""Annotations are those of the graph as published: rewriting changes how fast they come, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from kniv.server.pipeline.annotate import Annotator, Ask
from kniv.server.pipeline.encode import Encoder
from kniv.server.pipeline.segment import Sentence, sentences
from kniv.server.pipeline.types import SentenceAnnotation, Task, Timings
from kniv.server.repository.labels import Labels
from kniv.server.repository.metadata import Metadata
from kniv.server.runtime.session import Session
from kniv.server.scheduling.execute import execute, read
from kniv.server.scheduling.row import BatchTimes, Done, Row
from kniv.server.scheduling.urgency import Urgency

from .test_invariance import corpus, example

T = TypeVar("T")
NOTHING = Timings(0, 0, 0)


class Alone:
    """Answers each row by itself."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def submit(self, row: Row[T], urgency: Urgency) -> Done[T]:
        done = execute(self._session, [row], len(row.ids), self._session.switch())
        assert not done.failures
        answer = read(done, [row], [0])[0]
        assert not isinstance(answer, Exception), answer
        return Done(answer, 0, BatchTimes(done.input, done.infer, 0))

    async def submit_all(self, rows: Sequence[Row[T]], urgency: Urgency) -> list[Done[T]]:
        return [await self.submit(row, urgency) for row in rows]


def annotations(session: Session, version: Path, text: list[Sentence]) -> list[SentenceAnnotation]:
    encoder = Encoder(version / "tokenizer.json", Metadata.load(version / "metadata.json"))
    annotator = Annotator(Labels.load(version / "labels.json"), encoder, Alone(session), session.relation_weight)
    ask = Ask(frozenset(Task), previous="And then?")

    async def all_of_them() -> list[SentenceAnnotation]:
        return [await annotator.annotate(sentence, index, ask) for index, sentence in enumerate(text)]

    return [replace(one, timings=NOTHING, acts=one.acts and one.acts[:1]) for one in asyncio.run(all_of_them())]


@pytest.fixture
def as_published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Session]:
    """A session of the graph without any pass."""

    def plain(path: Path) -> Session:
        with monkeypatch.context() as context:
            context.setattr("kniv.server.runtime.session.prepared", lambda path, digest: path)
            return Session(path)

    return plain


def differing(one: SentenceAnnotation, other: SentenceAnnotation) -> int:
    """Words of which anything differs; the sentence's own layers count as one more."""
    whole = (one.entities, one.frames, [act for act, _ in one.acts or ()])
    theirs = (other.entities, other.frames, [act for act, _ in other.acts or ()])
    return sum(a != b for a, b in zip(one.tokens, other.tokens, strict=True)) + (whole != theirs)


@pytest.mark.parametrize("text", [example, corpus])
def test_annotations_in_float_stay_what_they_were(
    tiny: Path, as_published: Callable[[Path], Session], text: Callable[[], str]
) -> None:
    graph, given = tiny / "cascade.onnx", sentences(text())[:60]
    # A paragraph that the segmenter would cut, longer than the model reads at once.
    given = [*given, Sentence(0, " ".join(sentence.text for sentence in given[:30]))]
    ours, plain = Session(graph), as_published(graph)
    assert ours.relation_weight is not None
    assert plain.relation_weight is None
    pairs = zip(annotations(ours, tiny, given), annotations(plain, tiny, given), strict=True)
    words = wrong = 0
    for one, other in pairs:
        words, wrong = words + len(one.tokens) + 1, wrong + differing(one, other)
    # Random weights leave ties that the last bit of a logit decides.
    assert wrong <= 0.001 * words


@pytest.mark.parametrize("text", [example, corpus])
def test_annotations_in_eight_bits_stay_what_they_were(
    mini: Path, as_published: Callable[[Path], Session], text: Callable[[], str]
) -> None:
    graph, given = mini / "cascade-int8.onnx", sentences(text())[:30]
    words = wrong = 0
    for one, other in zip(
        annotations(Session(graph), mini, given), annotations(as_published(graph), mini, given), strict=True
    ):
        words, wrong = words + len(one.tokens) + 1, wrong + differing(one, other)
    assert wrong <= 0.001 * words
