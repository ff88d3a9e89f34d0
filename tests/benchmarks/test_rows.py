"""Rows told from annotations are those that the server ran, and bare batches hold each of them once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
from benchmarks.server.bare import batches
from benchmarks.server.models import mini
from benchmarks.server.rows import ACT, ROLES, TAGS, Row, rows_of, sentence_of
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.pipeline.annotate import Annotator, Ask
from kniv.server.pipeline.segment import Sentence
from kniv.server.pipeline.types import Task
from kniv.server.scheduling import row
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services import convert
from kniv.server.services.offsets import Unit
from kniv.v1 import annotation_pb2

T = TypeVar("T")

SENTENCES = ("She sold the house that he had built.", "No!", " ".join(["They came, saw and left again;"] * 30))


class Recorder:
    """Answers rows with scores of chance, and remembers them."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes, int, frozenset[str]]] = []
        self._random = np.random.default_rng(5)
        labels = mini().labels()
        self._classes = {
            "pos_logits": len(labels.pos),
            "ner_logits": len(labels.ner),
            "label_scores": len(labels.deprel),
            "srl_logits": len(labels.srl),
            "cls_logits": len(labels.cls),
        }

    async def submit(self, asked: row.Row[T], urgency: Urgency) -> row.Done[T]:
        self.rows.append((asked.ids.tobytes(), asked.predicate, frozenset(asked.outputs)))
        value = asked.read({name: self._scores(name, len(asked.ids)) for name in asked.outputs})
        return row.Done(value, 0.0, row.BatchTimes(0.0, 0.0, 0.0))

    async def submit_all(self, asked: Sequence[row.Row[T]], urgency: Urgency) -> list[row.Done[T]]:
        return [await self.submit(one, urgency) for one in asked]

    def _scores(self, name: str, length: int) -> row.Floats:
        sizes = [] if name == "cls_logits" else [length, length] if name in ("arc_scores", "label_scores") else [length]
        sizes += [self._classes[name]] if name in self._classes else []
        return self._random.standard_normal(sizes).astype(np.float32)


@pytest.mark.parametrize("tasks", [frozenset(Task), frozenset({Task.DIALOG_ACT})])
@pytest.mark.parametrize("previous", [None, "Who sold it?"])
@pytest.mark.parametrize("text", SENTENCES)
def test_rows_are_those_that_the_server_ran(text: str, previous: str | None, tasks: frozenset[Task]) -> None:
    recorder, encoder = Recorder(), mini().encoder()
    annotator = Annotator(mini().labels(), encoder, recorder)
    found = asyncio.run(annotator.annotate(Sentence(0, text), 0, Ask(tasks, previous)))
    message = convert.sentence(found, 0, Unit.CODE_POINT, annotation_pb2.ModelReference())
    told = rows_of(sentence_of(message.SerializeToString(), previous), encoder)
    assert Counter((one.ids.tobytes(), one.predicate, frozenset(one.outputs)) for one in told) == Counter(recorder.rows)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 128), st.sampled_from([TAGS, ROLES, ACT])), min_size=1, max_size=60),
    size=st.integers(1, 16),
)
def test_bare_batches_hold_every_row_once(lengths: list[tuple[int, tuple[str, ...]]], size: int) -> None:
    rows = [Row(np.full(length, place), place, outputs) for place, (length, outputs) in enumerate(lengths, 1)]
    made: list[Any] = []
    for outputs, inputs in batches(rows, size):
        assert 1 <= len(inputs["input_ids"]) <= size
        for ids, mask, predicate in zip(*inputs.values(), strict=True):
            made.append((ids[mask == 1].tolist(), int(predicate), tuple(outputs)))
            assert not ids[mask == 0].any()
    key = lambda one: one[1]  # noqa: E731
    assert sorted(made, key=key) == [(one.ids.tolist(), one.predicate, one.outputs) for one in rows]
