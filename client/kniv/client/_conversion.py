"""From wire messages to values: nothing behind this module knows protobuf."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from kniv.client._annotation import (
    Argument,
    DialogAct,
    Entity,
    Frame,
    LabelScore,
    ModelReference,
    Sentence,
    Task,
    Timings,
    Token,
)
from kniv.client._errors import KnivError, ServerError, from_status
from kniv.client._events import Event, Item, ItemDone, ItemFailed, Outcome, SentenceEvent
from kniv.client._model import LabelSets, ModelInfo, ModelLimits, ModelVersion
from kniv.v1 import annotation_pb2, annotation_service_pb2, model_pb2

# Numbers that a newer server may know and this client does not are left out, or read as Outcome.UNKNOWN.
_TASKS = {annotation_pb2.Task.Value(f"TASK_{task.name}"): task for task in Task}
_OUTCOMES = {
    annotation_service_pb2.OUTCOME_COMPLETE: Outcome.COMPLETE,
    annotation_service_pb2.OUTCOME_CANCELLED: Outcome.CANCELLED,
    annotation_service_pb2.OUTCOME_SUPERSEDED: Outcome.SUPERSEDED,
}


def to_sentence(message: annotation_pb2.SentenceAnnotation) -> Sentence:
    """One sentence."""
    return Sentence(
        index=message.index,
        start=message.span.start,
        end=message.span.end,
        text=message.text,
        tokens=tuple(map(_token, message.tokens)),
        entities=tuple(map(_entity, message.entities)),
        frames=tuple(Frame(frame.predicate, tuple(map(_argument, frame.arguments))) for frame in message.frames),
        dialog_act=_dialog_act(message.dialog_act) if message.HasField("dialog_act") else None,
        windowed=message.windowed,
        model=to_model_reference(message.model),
        timings=_timings(message.timings),
    )


def to_results(
    response: annotation_service_pb2.AnnotateTextResponse, text_count: int
) -> list[list[Sentence] | KnivError]:
    """One entry a text: its sentences, or why there are none."""
    if len(response.results) != text_count:
        raise ServerError(f"{len(response.results)} results came back for {text_count} texts")
    return [
        from_status(result.error)
        if result.WhichOneof("result") == "error"
        else list(map(to_sentence, result.annotation.sentences))
        for result in response.results
    ]


def to_event(response: annotation_service_pb2.StreamAnnotationsResponse) -> Event:
    """A sentence, completion or error message of a stream."""
    match response.WhichOneof("message"):
        case "sentence":
            found = response.sentence
            return SentenceEvent(_item(found.item), to_sentence(found.annotation), found.speaker)
        case "completion":
            done = response.completion
            outcome = _OUTCOMES.get(done.outcome, Outcome.UNKNOWN)
            return ItemDone(_item(done.item), outcome, done.sentence_count, _timings(done.timings))
        case "error":
            failed = response.error
            item = _item(failed.item) if failed.item.WhichOneof("item") else None
            return ItemFailed(item, from_status(failed.error), failed.item_ended)
        case other:
            raise ServerError(f"the server sent an unexpected message: {other}")


def to_model(message: model_pb2.Model) -> ModelInfo:
    """A model with its versions."""
    return ModelInfo(message.name, tuple(map(_version, message.versions)))


def to_model_reference(message: annotation_pb2.ModelReference) -> ModelReference:
    """Name, version and variant."""
    return ModelReference(message.name, message.version, message.variant)


def to_tasks(values: Iterable[int]) -> tuple[Task, ...]:
    """The tasks that this client knows."""
    return tuple(_TASKS[value] for value in values if value in _TASKS)


def _token(message: annotation_pb2.Token) -> Token:
    parsed = message.HasField("dependency")
    return Token(
        text=message.text,
        start=message.span.start,
        end=message.span.end,
        upos=message.upos or None,
        head=message.dependency.head if parsed else None,
        relation=message.dependency.relation if parsed else None,
    )


def _entity(message: annotation_pb2.Entity) -> Entity:
    span = message.span
    return Entity(message.type, message.first_token, message.end_token, span.start, span.end, message.text)


def _argument(message: annotation_pb2.Argument) -> Argument:
    span = message.span
    return Argument(message.role, message.first_token, message.end_token, span.start, span.end, message.text)


def _dialog_act(message: annotation_pb2.DialogAct) -> DialogAct:
    scores = tuple(LabelScore(entry.label, entry.score) for entry in message.scores)
    return DialogAct(message.label, message.score, scores)


def _timings(message: annotation_pb2.Timings) -> Timings:
    return Timings(
        _seconds(message.queue_duration), _seconds(message.compute_duration), _seconds(message.total_duration)
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos * 1e-9


def _item(message: annotation_service_pb2.ItemReference) -> Item:
    if message.WhichOneof("item") == "document_id":
        return Item("document", message.document_id)
    return Item("turn", message.turn_id, message.revision)


def _version(message: model_pb2.ModelVersion) -> ModelVersion:
    return ModelVersion(
        version=message.version,
        variants=tuple(message.variants),
        default_variant=message.default_variant,
        ready=message.ready,
        reason=message.reason,
        tasks=to_tasks(message.tasks),
        labels=_labels(message.labels) if message.HasField("labels") else None,
        limits=_limits(message.limits) if message.HasField("limits") else None,
    )


def _labels(message: model_pb2.LabelSets) -> LabelSets:
    return LabelSets(
        pos=tuple(message.pos),
        entity_types=tuple(message.entity_types),
        relations=tuple(message.relations),
        roles=tuple(message.roles),
        dialog_acts=tuple(message.dialog_acts),
    )


def _limits(message: model_pb2.ModelLimits) -> ModelLimits:
    return ModelLimits(message.max_subwords, message.max_context_turns)
