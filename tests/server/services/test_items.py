from __future__ import annotations

from itertools import pairwise
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import ConflictError, InferenceError, InvalidRequestError, NotFoundError
from kniv.server.services.item import Document
from kniv.server.services.items import Items
from kniv.server.services.offsets import Unit
from kniv.v1 import annotation_service_pb2 as calls


def items(*, context_turns: int = 1, ordered: bool = False) -> Items:
    return Items(Unit.CODE_POINT, context_turns, 4, ordered, Mock())


def chunk(name: str, content: bytes = b"", last: bool = False) -> calls.DocumentChunk:
    return calls.DocumentChunk(document_id=name, content=content, last=last)


def document(stream: Items, *args: object) -> Document:
    opened = stream.document(chunk(*args))  # type: ignore[arg-type]
    assert opened is not None
    return opened


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.integers(0, 300)))
def test_a_document_decodes_to_its_text_however_it_was_cut(text: str, cuts: list[int]) -> None:
    content = text.encode()
    bounds = [0, *sorted(cut for cut in cuts if cut < len(content)), len(content)]
    arriving = document(items(), "d")
    pieces = [arriving.decode(content[start:end], last=False) for start, end in pairwise(bounds)]
    assert "".join([*pieces, arriving.decode(b"", last=True)]) == text


def test_bytes_that_are_no_utf8_are_named_by_their_place_in_the_document() -> None:
    arriving = document(items(), "d")
    assert arriving.decode(b"caf\xc3", last=False) == "caf"
    with pytest.raises(InvalidRequestError, match="byte 3 "):
        arriving.decode(b"?", last=False)


def test_context_is_the_last_final_turn_of_another_name() -> None:
    stream = items()

    def context(name: str, text: str, revision: int = 0, partial: bool = False) -> str | None:
        return stream.turn(calls.Turn(turn_id=name, text=text, revision=revision, is_partial=partial))[1]

    assert context("1", "One.") is None
    assert context("2", "Tw", partial=True) == "One."
    assert context("2", "Two.", 1) == "One."
    assert context("2", "Two!", 2) == "One."
    assert context("3", "  ") == "Two!"
    assert context("4", "Four.") == "Two!"
    assert context("5", "Five.") == "Four."


def test_a_turn_may_give_context_without_being_annotated_and_be_taken_back() -> None:
    stream = items(context_turns=2)
    stream.remember(calls.Turn(turn_id="1", text="One.", context_only=True))
    stream.remember(calls.Turn(turn_id="2", text="Two.", revision=3, context_only=True))
    stream.remember(calls.Turn(turn_id="3", text="Thr", is_partial=True, context_only=True))
    assert stream.turn(calls.Turn(turn_id="4", text="Four."))[1] == "One. Two."
    stream.cancel(calls.ItemReference(turn_id="2", revision=3))
    assert stream.turn(calls.Turn(turn_id="5", text="Five."))[1] == "One. Four."
    assert stream.turn(calls.Turn(turn_id="3", text="Three.", revision=1))[1] == "One."
    with pytest.raises(ConflictError):
        stream.remember(calls.Turn(turn_id="1", text="One!", context_only=True))


def test_a_newer_revision_supersedes_and_an_older_is_refused() -> None:
    stream = items()
    first, _ = stream.turn(calls.Turn(turn_id="1", text="a", revision=3))
    second, _ = stream.turn(calls.Turn(turn_id="1", text="b", revision=5))
    assert first.outcome == calls.OUTCOME_SUPERSEDED and second.wanted
    for revision in (5, 4):
        with pytest.raises(ConflictError, match="'1'"):
            stream.turn(calls.Turn(turn_id="1", text="c", revision=revision))
    assert second.wanted


def test_cancelling_ends_what_is_open_and_leaves_what_has_ended() -> None:
    stream = items()
    opened = document(stream, "d")
    assert stream.cancel(calls.ItemReference(document_id="d")) is opened
    assert opened.item.outcome == calls.OUTCOME_CANCELLED
    assert stream.document(chunk("d", b"late")) is None
    document(stream, "e", b"", True)
    assert stream.cancel(calls.ItemReference(document_id="e")) is None
    with pytest.raises(ConflictError, match="'e'"):
        stream.document(chunk("e"))
    for reference in (calls.ItemReference(document_id="x"), calls.ItemReference(turn_id="d"), calls.ItemReference()):
        with pytest.raises(NotFoundError):
            stream.cancel(reference)


def test_turns_and_documents_have_names_of_their_own_and_documents_a_bound() -> None:
    stream = items()
    stream.turn(calls.Turn(turn_id="0", text="a"))
    for name in "0123":
        document(stream, name)
    with pytest.raises(InvalidRequestError, match="4 documents are open"):
        stream.document(chunk("4"))
    assert len(stream.open_documents()) == 4


def test_an_ordered_stream_has_one_item_open_at_a_time() -> None:
    stream = items(ordered=True)
    document(stream, "d")
    for refused in (lambda: stream.turn(calls.Turn(turn_id="1")), lambda: stream.document(chunk("e"))):
        with pytest.raises(InvalidRequestError, match="'d' is still open"):
            refused()
    document(stream, "d", b"", True)
    stream.turn(calls.Turn(turn_id="1"))


def test_a_turn_that_becomes_final_late_gives_context_at_its_place() -> None:
    stream = items(context_turns=2)
    stream.turn(calls.Turn(turn_id="1", text="On", is_partial=True))
    assert stream.turn(calls.Turn(turn_id="2", text="Two."))[1] is None
    assert stream.turn(calls.Turn(turn_id="1", text="One.", revision=1))[1] is None
    assert stream.turn(calls.Turn(turn_id="3", text="Three."))[1] == "One. Two."
    assert stream.turn(calls.Turn(turn_id="2", text="Two!", revision=1))[1] == "One."


def test_a_turn_gives_no_context_once_it_is_cancelled_in_time() -> None:
    stream = items()

    def context(name: str) -> str | None:
        return stream.turn(calls.Turn(turn_id=name, text="?", is_partial=True))[1]

    failed, _ = stream.turn(calls.Turn(turn_id="1", text="One."))
    failed.fail(InferenceError("the run failed"))
    stream.cancel(calls.ItemReference(turn_id="1"))
    assert context("a") == "One."
    ended, _ = stream.turn(calls.Turn(turn_id="2", text="Two."))
    stream.end(ended)
    stream.cancel(calls.ItemReference(turn_id="2"))
    assert context("b") == "Two."
    stream.turn(calls.Turn(turn_id="3", text="Three."))
    stream.cancel(calls.ItemReference(turn_id="3"))
    assert context("c") == "Two."
    stream.turn(calls.Turn(turn_id="3", text="Three!", revision=1))
    assert context("d") == "Three!"
