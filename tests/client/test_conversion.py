"""Values made from wire messages say all that the messages say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kniv.client import Argument, DialogAct, Entity, Frame, LabelScore, ModelReference, Sentence, Timings, Token
from kniv.client._conversion import to_sentence
from kniv.v1 import annotation_pb2

texts = st.text(max_size=6)
counts = st.integers(0, 2**31 - 1)
scores = st.floats(0, 1, width=32)
# Quarters of a second are the same as decimal, binary and Duration.
seconds = st.integers(0, 1000).map(lambda quarters: quarters / 4)
places = st.tuples(counts, counts, counts, counts, texts)
tokens = st.one_of(
    st.builds(Token, texts, counts, counts, texts.map(lambda tag: tag or None), counts, texts),
    st.builds(Token, texts, counts, counts, st.none(), st.none(), st.none()),
)
sentences = st.builds(
    Sentence,
    index=counts,
    start=counts,
    end=counts,
    text=texts,
    tokens=st.lists(tokens, max_size=3).map(tuple),
    entities=st.lists(st.builds(lambda label, place: Entity(label, *place), texts, places), max_size=2).map(tuple),
    frames=st.lists(
        st.builds(
            Frame,
            counts,
            st.lists(st.builds(lambda role, place: Argument(role, *place), texts, places), max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    dialog_act=st.none()
    | st.builds(DialogAct, texts, scores, st.lists(st.builds(LabelScore, texts, scores), max_size=2).map(tuple)),
    windowed=st.booleans(),
    model=st.builds(ModelReference, texts, counts, texts),
    timings=st.builds(Timings, seconds, seconds, seconds),
)


def span(value):
    return annotation_pb2.Span(start=value.start, end=value.end)


def part(value):
    return {
        "first_token": value.first_token,
        "end_token": value.end_token,
        "span": span(value),
        "text": value.text,
    }


def to_wire(sentence):
    """The other direction, as a server would do it."""
    message = annotation_pb2.SentenceAnnotation(
        index=sentence.index, span=span(sentence), text=sentence.text, windowed=sentence.windowed
    )
    for token in sentence.tokens:
        added = message.tokens.add(text=token.text, span=span(token), upos=token.upos or "")
        if token.head is not None:
            added.dependency.head, added.dependency.relation = token.head, token.relation
    for entity in sentence.entities:
        message.entities.add(type=entity.type, **part(entity))
    for frame in sentence.frames:
        added = message.frames.add(predicate=frame.predicate)
        for argument in frame.arguments:
            added.arguments.add(role=argument.role, **part(argument))
    if sentence.dialog_act is not None:
        act = sentence.dialog_act
        message.dialog_act.label, message.dialog_act.score = act.label, act.score
        for entry in act.scores:
            message.dialog_act.scores.add(label=entry.label, score=entry.score)
    model, timings = sentence.model, sentence.timings
    message.model.name, message.model.version, message.model.variant = model.name, model.version, model.variant
    for name in ("queue", "compute", "total"):
        duration = getattr(message.timings, f"{name}_duration")
        duration.FromNanoseconds(int(getattr(timings, f"{name}_s") * 10**9))
    return message


@given(sentences)
def test_round_trip(sentence):
    wire = to_wire(sentence)
    assert to_sentence(annotation_pb2.SentenceAnnotation.FromString(wire.SerializeToString())) == sentence


@given(sentences)
def test_values_can_be_keys(sentence):
    assert {sentence: 1}[sentence] == 1
