"""Annotating one sentence with one model: words, rows, answers, assembled."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from operator import itemgetter
from time import monotonic, perf_counter
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from kniv.server.aside import aside
from kniv.server.graphs.contract import RELATIONS
from kniv.server.pipeline.decode import BioDecoder, spans, tree
from kniv.server.pipeline.encode import Encoder, Ints, Window
from kniv.server.pipeline.long_tree import long_tree
from kniv.server.pipeline.segment import Sentence
from kniv.server.pipeline.stitch import Floats, Scores, home_windows, relations_at, stitch, word_scores
from kniv.server.pipeline.types import Argument, Entity, Frame, SentenceAnnotation, Task, Timings, Token
from kniv.server.pipeline.words import Word, words
from kniv.server.repository.labels import Labels
from kniv.server.scheduling.row import Done, Row
from kniv.server.scheduling.urgency import Urgency
from kniv.server.together import both

T = TypeVar("T")
Acts: TypeAlias = tuple[tuple[str, float], ...]

_SHORT = 600  # characters up to which splitting into words is not worth a thread


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted of a sentence.

    Attributes:
        tasks: layers to fill.
        previous: the turn before, None if there is none.
        predicates: offsets into the item's text of characters inside the predicates to find frames for
            (those outside the sentence are passed over); None for every verb.
        urgency: how its rows stand among others.
    """

    tasks: frozenset[Task]
    previous: str | None = None
    predicates: tuple[int, ...] | None = None
    urgency: Urgency = field(default_factory=Urgency)


class Rows(Protocol):
    """Where rows are answered: see :class:`kniv.server.models.statistics.CountedRows`."""

    async def submit(self, row: Row[T], urgency: Urgency) -> Done[T]:
        """Wait for a row's turn and answer."""
        ...

    async def submit_all(self, rows: Sequence[Row[T]], urgency: Urgency) -> list[Done[T]]:
        """Wait for the turns and answers of rows that belong together; the first that fails gives up the others."""
        ...


@dataclass(frozen=True, slots=True)
class _Tags:
    """Decoded word layers, and the dialog acts where the same row gave them; what was not asked for is None."""

    pos: tuple[str, ...] | None = None
    entities: tuple[Entity, ...] = ()
    heads: tuple[int, ...] | None = None
    relations: tuple[str, ...] | None = None
    acts: Acts | None = None


_NOTHING = _Tags()


@dataclass(frozen=True, slots=True)
class _Rows:
    """A sentence, ready for the model.

    Attributes:
        words, windows: for the word layers.
        shared: whether the row of the only window gives the dialog act too.
        act: ids [S] of the row that gives it otherwise; None if it was not asked for.
    """

    words: list[Word]
    windows: list[Window]
    shared: bool
    act: Ints | None


class Annotator:
    """Annotates sentences with one variant of one model version.

    Args:
        labels: the version's label lists.
        encoder: the version's tokenizer.
        rows: where rows are answered.
        relation_weight: what scores relations where rows give them at the best heads alone [C, d + 1, d + 1];
            None where rows give ``label_scores``.
    """

    def __init__(self, labels: Labels, encoder: Encoder, rows: Rows, relation_weight: Floats | None = None) -> None:
        self._labels, self._encoder, self._rows = labels, encoder, rows
        self._relation_weight = relation_weight
        self._ner = BioDecoder(labels.ner)
        self._srl = BioDecoder(labels.srl)
        self._root = labels.deprel.index("root")

    async def annotate(self, sentence: Sentence, index: int, ask: Ask) -> SentenceAnnotation:
        """Annotate one sentence.

        Args:
            sentence: the sentence with its place in the item.
            index: its number in the item.
            ask: what is wanted.

        Raises:
            InferenceError: the model failed on it.
        """
        started, began = perf_counter(), monotonic()
        rows = await aside(len(sentence.text) > _SHORT, self._prepare, sentence.text, ask)
        ask.urgency.trail.encoded(began, monotonic())
        layers = self._layers(sentence.start, rows, ask)
        if rows.act is None:
            tags, frames, spent = await layers
            acts = tags.acts
        else:
            (tags, frames, spent), act = await both(layers, self._act(rows.act, ask))
            acts, spent = act.value, [*spent, act]
        timings = Timings(sum(d.queued for d in spent), sum(d.computed for d in spent), perf_counter() - started)
        return SentenceAnnotation(
            index=index,
            start=sentence.start,
            text=sentence.text,
            tokens=_tokens(sentence.start, rows.words, tags),
            entities=tags.entities,
            frames=frames,
            acts=acts,
            windowed=len(rows.windows) > 1 or any(window.cut for window in rows.windows),
            timings=timings,
        )

    def _prepare(self, text: str, ask: Ask) -> _Rows:
        found = words(text)
        windows = self._encoder.windows([text[word.start : word.end] for word in found])
        if Task.DIALOG_ACT not in ask.tasks:
            return _Rows(found, windows, shared=False, act=None)
        act = self._encoder.act(ask.previous, text, windows)
        if len(windows) == 1 and self._outputs(ask) and act is windows[0].ids:
            return _Rows(found, windows, shared=True, act=None)
        return _Rows(found, windows, shared=False, act=act)

    def _outputs(self, ask: Ask) -> tuple[str, ...]:
        """Graph outputs that the word layers need; frames need POS to find the verbs."""
        wanted: list[str] = []
        if Task.POS in ask.tasks or (Task.SRL in ask.tasks and ask.predicates is None):
            wanted.append("pos_logits")
        if Task.NER in ask.tasks:
            wanted.append("ner_logits")
        if Task.DEP in ask.tasks:
            wanted += ["arc_scores", *(("label_scores",) if self._relation_weight is None else RELATIONS)]
        return tuple(wanted)

    async def _layers(self, start: int, rows: _Rows, ask: Ask) -> tuple[_Tags, tuple[Frame, ...], list[Done[object]]]:
        """POS, entities, tree and frames: one row a window, then one row a predicate."""
        found, windows, outputs = rows.words, rows.windows, self._outputs(ask)
        if not windows or not (outputs or Task.SRL in ask.tasks):
            return _NOTHING, (), []
        arrived = monotonic()
        spent: list[Done[object]] = []
        tags = _NOTHING
        if outputs:
            wanted = (*outputs, "cls_logits") if rows.shared else outputs
            leading = replace(ask.urgency, leads=Task.SRL in ask.tasks and ask.predicates != ())
            tags, spent = await self._tags(found, windows, wanted, leading)
        frames: tuple[Frame, ...] = ()
        if Task.SRL in ask.tasks:
            predicates = _predicates(start, found, tags, ask)
            # Work that has had answers is finished before the caller's next is begun.
            urgency = ask.urgency.continuing(arrived) if outputs else ask.urgency
            frames, more = await self._frames(found, windows, predicates, urgency)
            spent += more
        if Task.POS not in ask.tasks:
            tags = replace(tags, pos=None)
        return tags, frames, spent

    async def _tags(
        self, found: Sequence[Word], windows: Sequence[Window], outputs: tuple[str, ...], urgency: Urgency
    ) -> tuple[_Tags, list[Done[object]]]:
        if len(windows) == 1:

            def read(values: dict[str, Floats]) -> _Tags:
                acts = self._ranked(values) if "cls_logits" in values else None
                return self._decode([self._scores(values, windows[0])], windows, len(found), acts)

            done = await self._rows.submit(Row(windows[0].ids, 0, outputs, read), urgency)
            return done.value, [done]
        rows = [Row(window.ids, 0, outputs, partial(self._scores, window=window)) for window in windows]
        parts = await self._rows.submit_all(rows, urgency)
        tags = await aside(True, self._decode, [part.value for part in parts], windows, len(found))
        return tags, [*parts]

    def _scores(self, outputs: dict[str, Floats], window: Window) -> Scores:
        return word_scores(outputs, window, self._root, self._relation_weight)

    def _decode(
        self, parts: Sequence[Scores], windows: Sequence[Window], count: int, acts: Acts | None = None
    ) -> _Tags:
        scores, labels = stitch(parts, windows, count), self._labels
        pos: tuple[str, ...] | None = None
        entities: tuple[Entity, ...] = ()
        heads: tuple[int, ...] | None = None
        names: tuple[str, ...] | None = None
        if scores.pos is not None:
            pos = tuple([labels.pos[best] for best in scores.pos.argmax(-1).tolist()])
        if scores.ner is not None:
            entities = tuple(Entity(s.label, s.start, s.end) for s in spans(self._ner.decode(scores.ner)))
        if scores.arcs is not None:
            arcs = scores.arcs
            best = tree(arcs) if len(windows) == 1 else long_tree(arcs, home_windows(windows, count))
            heads = tuple(best.tolist())
            names = tuple([labels.deprel[label] for label in relations_at(parts, windows, best, self._root)])
        return _Tags(pos, entities, heads, names, acts)

    async def _frames(
        self, found: Sequence[Word], windows: Sequence[Window], predicates: Sequence[int], urgency: Urgency
    ) -> tuple[tuple[Frame, ...], list[Done[object]]]:
        if not predicates:
            return (), []
        home = home_windows(windows, len(found))
        rows = []
        for predicate in predicates:
            window = windows[home[predicate]]
            read = partial(self._frame, window=window, predicate=predicate)
            marked = int(window.first[predicate - window.begin])
            rows.append(Row(window.ids, marked, ("srl_logits",), read))
        frames = await self._rows.submit_all(rows, urgency)
        return tuple(done.value for done in frames), [*frames]

    def _frame(self, outputs: dict[str, Floats], window: Window, predicate: int) -> Frame:
        logits = outputs["srl_logits"].take(window.first, 0)
        tags = self._srl.decode(logits, predicate=predicate - window.begin)
        found = [Argument(s.label, s.start + window.begin, s.end + window.begin) for s in spans(tags)]
        return Frame(predicate, tuple([argument for argument in found if argument.role != "V"]))

    async def _act(self, ids: Ints, ask: Ask) -> Done[Acts]:
        return await self._rows.submit(Row(ids, 0, ("cls_logits",), self._ranked), ask.urgency)

    def _ranked(self, outputs: dict[str, Floats]) -> Acts:
        logits = outputs["cls_logits"].astype(np.float64)
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        return tuple(sorted(zip(self._labels.cls, scores.tolist(), strict=True), key=itemgetter(1), reverse=True))


def _predicates(start: int, found: Sequence[Word], tags: _Tags, ask: Ask) -> list[int]:
    """Tokens to find frames for: the caller's, or every word tagged VERB."""
    if ask.predicates is not None:
        places = [*sorted(at - start for at in ask.predicates), inf]
        return [index for index, word in enumerate(found) if places[bisect_left(places, word.start)] < word.end]
    assert tags.pos is not None
    return [index for index, tag in enumerate(tags.pos) if tag == "VERB"]


def _tokens(start: int, found: Sequence[Word], tags: _Tags) -> tuple[Token, ...]:
    count = len(found)
    pos = tags.pos or (None,) * count
    heads, relations = tags.heads or (None,) * count, tags.relations or (None,) * count
    return tuple(
        [
            Token(start + word.start, start + word.end, tag, head, relation)
            for word, tag, head, relation in zip(found, pos, heads, relations, strict=True)
        ]
    )
