from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.pipeline.types import Argument, Entity, Frame, SentenceAnnotation, Timings, Token
from kniv.server.pipeline.words import words
from kniv.server.services import convert
from kniv.server.services.offsets import Unit, length
from kniv.v1 import annotation_pb2 as wire

MODEL = wire.ModelReference(name="m", version=3, variant="int8")
TEXTS = st.lists(st.sampled_from(["Hello", "hé", "😀", "don't", " ", "\u00a0", "."]), min_size=1).map("".join)
SECONDS = st.floats(0, 1e4)


@st.composite
def annotations(draw: st.DrawFn) -> SentenceAnnotation:
    text, start = "A" + draw(TEXTS).strip(), draw(st.integers(0, 1000))
    tagged, parsed = draw(st.booleans()), draw(st.booleans())
    tokens = tuple(
        Token(
            start + word.start,
            start + word.end,
            "NOUN" if tagged else None,
            draw(st.integers(0, 5)) if parsed else None,
            "dep" if parsed else None,
        )
        for word in words(text)
    )
    spans = st.tuples(st.integers(0, len(tokens) - 1), st.integers(1, len(tokens))).filter(lambda two: two[0] < two[1])
    return SentenceAnnotation(
        index=draw(st.integers(0, 9)),
        start=start,
        text=text,
        tokens=tokens,
        entities=tuple(Entity("PERSON", *span) for span in draw(st.lists(spans, max_size=2))),
        frames=(Frame(0, tuple(Argument("ARG0", *span) for span in draw(st.lists(spans, max_size=3)))),),
        acts=draw(st.sampled_from([None, (("question", 0.75), ("inform", 0.25))])),
        windowed=draw(st.booleans()),
        timings=Timings(draw(SECONDS), draw(SECONDS), draw(SECONDS)),
    )


@given(annotations(), st.integers(0, 1 << 20), st.sampled_from(Unit))
def test_all_of_a_sentence_is_told_in_the_callers_unit(found: SentenceAnnotation, start: int, unit: Unit) -> None:
    message = convert.sentence(found, start, unit, MODEL)
    assert (message.index, message.text, message.windowed) == (found.index, found.text, found.windowed)
    assert message.model == MODEL
    assert message.span == wire.Span(start=start, end=start + length(found.text, unit))
    for token, told in zip(found.tokens, message.tokens, strict=True):
        before, text = (found.text[: token.start - found.start], found.text[token.start - found.start :])
        text = text[: token.end - token.start]
        at = start + length(before, unit)
        assert (told.text, told.span.start, told.span.end) == (text, at, at + length(text, unit))
        assert told.upos == (token.upos or "")
        assert told.HasField("dependency") == (token.head is not None)
        assert (told.dependency.head, told.dependency.relation) == (token.head or 0, token.relation or "")
    over = [*zip(found.entities, message.entities, strict=True)]
    over += zip(found.frames[0].arguments, message.frames[0].arguments, strict=True)  # type: ignore[arg-type]
    for one, named in over:
        assert (named.first_token, named.end_token) == (one.first, one.end)
        first, last = message.tokens[one.first], message.tokens[one.end - 1]
        assert named.span == wire.Span(start=first.span.start, end=last.span.end)
        assert named.text.startswith(first.text) and named.text.endswith(last.text)
    assert [one.type for one in message.entities] == ["PERSON"] * len(found.entities)
    assert all(one.role == "ARG0" for one in message.frames[0].arguments)
    scores = tuple((one.label, one.score) for one in message.dialog_act.scores)
    assert scores == (found.acts or ())
    assert message.HasField("dialog_act") == (found.acts is not None)


@given(st.builds(Timings, SECONDS, SECONDS, SECONDS), st.lists(st.builds(Timings, SECONDS, SECONDS, SECONDS)))
def test_timings_are_there_to_the_nanosecond_even_if_they_are_none(one: Timings, others: list[Timings]) -> None:
    message = wire.Timings()
    convert.set_timings(message, one)
    for field, seconds in (("queue", one.queue), ("compute", one.compute), ("total", one.total)):
        assert message.HasField(f"{field}_duration")
        assert getattr(message, f"{field}_duration").ToNanoseconds() == round(seconds * 1e9)
    summed = convert.total(others, 1.5)
    assert summed.total_duration.ToNanoseconds() == 1_500_000_000
    assert summed.queue_duration.ToNanoseconds() == round(sum(other.queue for other in others) * 1e9)
