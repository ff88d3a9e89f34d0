"""Between wire messages and the pipeline's values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from kniv.server.errors import InvalidRequestError
from kniv.server.models.catalogue import VersionEntry
from kniv.server.models.version import Lease
from kniv.server.pipeline.types import SentenceAnnotation, Task, Timings
from kniv.server.services.offsets import Unit, marks
from kniv.v1 import annotation_pb2 as wire
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import model_pb2

_TASKS = {
    wire.TASK_POS: Task.POS,
    wire.TASK_NER: Task.NER,
    wire.TASK_DEP: Task.DEP,
    wire.TASK_SRL: Task.SRL,
    wire.TASK_DIALOG_ACT: Task.DIALOG_ACT,
}
_UNITS = {
    wire.OFFSET_UNIT_UNSPECIFIED: Unit.CODE_POINT,
    wire.OFFSET_UNIT_CODE_POINT: Unit.CODE_POINT,
    wire.OFFSET_UNIT_UTF8_BYTE: Unit.UTF8_BYTE,
    wire.OFFSET_UNIT_UTF16_CODE_UNIT: Unit.UTF16_CODE_UNIT,
}
MAX_PRIORITY = 255
_MAX_TASKS = 64  # a request may name one twice, not without end


@dataclass(frozen=True, slots=True)
class Options:
    """A request's options, checked.

    Attributes:
        model, version, variant: what it names; empty and 0 for the default.
        priority: level, 1 is the most urgent; 0 for the model's default.
    """

    model: str
    version: int
    variant: str
    tasks: frozenset[Task]
    unit: Unit
    priority: int


def options_of(message: calls.AnnotationOptions, field: str) -> Options:
    """Check a request's options.

    Raises:
        InvalidRequestError: an unknown task, unit or priority, or a negative version.
    """
    tasks = set()
    if len(message.tasks) > _MAX_TASKS:
        raise InvalidRequestError(f"{field}.tasks", f"{len(message.tasks)} tasks; at most {_MAX_TASKS}")
    for position, task in enumerate(message.tasks):
        if task not in _TASKS:
            known = ", ".join(wire.Task.Name(number) for number in _TASKS)
            raise InvalidRequestError(f"{field}.tasks[{position}]", f"unknown task {task}; there are: {known}")
        tasks.add(_TASKS[task])
    if message.offset_unit not in _UNITS:
        raise InvalidRequestError(f"{field}.offset_unit", f"unknown unit {message.offset_unit}")
    if not 0 <= message.priority <= MAX_PRIORITY:
        raise InvalidRequestError(
            f"{field}.priority", f"must be 1 (most urgent) to {MAX_PRIORITY}, or 0 for the default"
        )
    if message.version < 0:
        raise InvalidRequestError(f"{field}.version", "must be a version number, or 0 for the newest")
    return Options(
        model=message.model,
        version=message.version,
        variant=message.variant,
        tasks=frozenset(tasks or _TASKS.values()),
        unit=_UNITS[message.offset_unit],
        priority=message.priority,
    )


def reference(lease: Lease) -> wire.ModelReference:
    """Which weights give an answer."""
    return wire.ModelReference(name=lease.version.model, version=lease.version.number, variant=lease.variant)


def tasks_of(tasks: frozenset[Task]) -> list[wire.Task]:
    """Tasks on the wire, in the order of their numbers."""
    return [number for number, task in _TASKS.items() if task in tasks]


def set_timings(message: wire.Timings, values: Timings) -> None:
    """Put timings on the wire."""
    _set_duration(message.queue_duration, values.queue)
    _set_duration(message.compute_duration, values.compute)
    _set_duration(message.total_duration, values.total)


def total(parts: Iterable[Timings], passed: float) -> wire.Timings:
    """Timings of an item: sums over its sentences, and the seconds it took in all."""
    listed, message = list(parts), wire.Timings()
    set_timings(message, Timings(sum(p.queue for p in listed), sum(p.compute for p in listed), passed))
    return message


def sentence(found: SentenceAnnotation, start: int, unit: Unit, model: wire.ModelReference) -> wire.SentenceAnnotation:
    """A sentence on the wire; see :func:`set_sentence`."""
    message = wire.SentenceAnnotation()
    set_sentence(message, found, start, unit, model)
    return message


def set_sentence(
    message: wire.SentenceAnnotation, found: SentenceAnnotation, start: int, unit: Unit, model: wire.ModelReference
) -> None:
    """Put a sentence on the wire.

    Fields are set one by one in the message that will be sent: half the time of building messages from messages, each
    of which is copied into the next.

    Args:
        message: empty.
        found: the sentence.
        start: its offset in the item's text, in ``unit``.
        unit: the caller's offset unit.
        model: which weights gave the answer.
    """
    text, tokens, first = found.text, found.tokens, found.start
    at = marks(text, unit)

    def set_over(wanted: wire.Entity | wire.Argument, begin: int, end: int) -> None:
        wanted.first_token, wanted.end_token = begin, end
        begins, ends = tokens[begin].start - first, tokens[end - 1].end - first
        span = wanted.span
        span.start, span.end = start + at[begins], start + at[ends]
        wanted.text = text[begins:ends]

    message.index, message.text, message.windowed = found.index, text, found.windowed
    message.span.start, message.span.end = start, start + at[len(text)]
    message.model.CopyFrom(model)
    set_timings(message.timings, found.timings)
    add_token = message.tokens.add
    for token in tokens:
        begins, ends, added = token.start - first, token.end - first, add_token()
        added.text = text[begins:ends]
        span = added.span
        span.start, span.end = start + at[begins], start + at[ends]
        if token.upos is not None:
            added.upos = token.upos
        if token.head is not None:
            dependency = added.dependency
            dependency.head, dependency.relation = token.head, token.relation or ""
    for entity in found.entities:
        named = message.entities.add()
        named.type = entity.type
        set_over(named, entity.first, entity.end)
    for frame in found.frames:
        framed = message.frames.add()
        framed.predicate = frame.predicate
        for argument in frame.arguments:
            filled = framed.arguments.add()
            filled.role = argument.role
            set_over(filled, argument.first, argument.end)
    if found.acts is not None:
        act = message.dialog_act
        act.label, act.score = found.acts[0]
        for label, score in found.acts:
            act.scores.add(label=label, score=score)


def _set_duration(message: Duration, seconds: float) -> None:
    message.seconds, message.nanos = divmod(round(seconds * 1e9), 1_000_000_000)


def model_of(name: str, versions: Mapping[int, VersionEntry], full: bool) -> model_pb2.Model:
    """A model on the wire, with labels and limits in the full view."""
    message = model_pb2.Model(name=name)
    for number, entry in versions.items():
        added = message.versions.add(version=number, ready=entry.ready, reason=entry.reason)
        if entry.loaded is None:
            continue
        added.variants.extend(entry.loaded.rows)
        added.default_variant = entry.loaded.default_variant
        added.tasks.extend(_TASKS)
        if full:
            labels, limits = entry.loaded.opened.labels, entry.loaded.opened.limits
            added.labels.pos.extend(labels.pos)
            added.labels.entity_types.extend(_types(labels.ner))
            added.labels.relations.extend(labels.deprel)
            added.labels.roles.extend(_types(labels.srl))
            added.labels.dialog_acts.extend(labels.cls)
            added.limits.max_subwords = limits.max_subwords
            added.limits.max_context_turns = limits.max_context_turns
    return message


def _types(tags: tuple[str, ...]) -> list[str]:
    return [tag.removeprefix("B-") for tag in tags if tag.startswith("B-")]
