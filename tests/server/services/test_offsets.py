from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import InvalidRequestError
from kniv.server.services.offsets import Ruler, Span, Unit, length, marks, to_code_points
from kniv.v1 import annotation_pb2

texts = st.text(st.characters(exclude_categories=["Cs"]))
CODECS = {Unit.UTF8_BYTE: ("utf-8", 1), Unit.UTF16_CODE_UNIT: ("utf-16-le", 2), Unit.CODE_POINT: ("utf-32-le", 4)}


def spans(*starts: int) -> list[Span]:
    return [annotation_pb2.Span(start=start) for start in starts]


def encoded_length(text: str, unit: Unit) -> int:
    codec, size = CODECS[unit]
    return len(text.encode(codec)) // size


@given(texts, st.sampled_from(Unit))
def test_marks_are_the_lengths_of_all_prefixes(text: str, unit: Unit) -> None:
    assert list(marks(text, unit)) == [encoded_length(text[:end], unit) for end in range(len(text) + 1)]
    assert length(text, unit) == encoded_length(text, unit)


@given(st.lists(texts), st.sampled_from(Unit), st.data())
def test_a_ruler_measures_prefixes_however_the_text_was_fed(pieces: list[str], unit: Unit, data: st.DataObject) -> None:
    whole, ruler = "".join(pieces), Ruler(unit)
    starts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    for piece in pieces:
        ruler.feed(piece)
    assert [ruler.measure(start) for start in starts] == [encoded_length(whole[:start], unit) for start in starts]


@given(texts, st.sampled_from(Unit))
def test_offsets_come_back_as_code_points(text: str, unit: Unit) -> None:
    places = [place for place, character in enumerate(text) if not character.isspace()]
    offsets = [marks(text, unit)[place] for place in places]
    assert to_code_points(spans(*offsets), text, unit, "spans") == places


@pytest.mark.parametrize("offset", [1, -1, 2, 3])
def test_an_offset_that_names_no_character_of_a_word_is_refused_by_name(offset: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"{offset} is ") as refused:
        to_code_points(spans(0, offset), "\U0001f600 ", Unit.UTF16_CODE_UNIT, "spans")
    assert refused.value.field == "spans[1].start"


@given(texts, st.sampled_from(Unit), st.integers(-3, 40))
def test_other_offsets_are_refused(text: str, unit: Unit, offset: int) -> None:
    known = {mark: place for place, mark in enumerate(marks(text, unit)[:-1])}
    if offset in known and not text[known[offset]].isspace():
        assert to_code_points(spans(offset), text, unit, "spans") == [known[offset]]
    else:
        with pytest.raises(InvalidRequestError, match=f"{offset} is "):
            to_code_points(spans(offset), text, unit, "spans")


def test_too_many_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(InvalidRequestError, match="257 spans; at most 256"):
        to_code_points([None] * 257, "text", Unit.CODE_POINT, "spans")  # type: ignore[list-item]
