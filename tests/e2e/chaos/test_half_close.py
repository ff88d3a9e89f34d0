"""Clients that say at once, or in the middle of something, that they will send no more."""

from __future__ import annotations

import pytest
from tests.e2e.chaos.callers import ONE_ROW, TEXT, channel_to
from tests.e2e.chaos.inside import Inside
from tests.e2e.wire import Request, chunk, completions, configuration, errors, turn

from kniv.v1 import annotation_service_pb2_grpc as stubs

_FIRST = configuration(options=ONE_ROW)
# What is sent before the half-close, and the sentences of each item.
EARLY: dict[str, tuple[list[Request], dict[str, int]]] = {
    "nothing": ([], {}),
    "a configuration": ([_FIRST], {}),
    "a turn": ([_FIRST, turn("1", TEXT)], {"1": 1}),
    "turns by the hundred": ([_FIRST, *(turn(str(n), TEXT) for n in range(100))], {str(n): 1 for n in range(100)}),
    "half a document": ([_FIRST, chunk("d", f"{TEXT} And th".encode())], {"d": 2}),
    "an empty document": ([_FIRST, chunk("d", b"")], {"d": 0}),
}


@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize("ordering", ["ORDERING_AS_READY", "ORDERING_IN_ORDER"])
def test_an_early_half_close(inside: Inside, early: str, ordering: str) -> None:
    sent, expected = EARLY[early]
    if sent:
        sent = [configuration(options=ONE_ROW, ordering=ordering), *sent[1:]]
    with channel_to(inside.target) as channel:
        responses = list(stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent), timeout=60))
    assert not errors(responses)
    assert {name: end.sentence_count for name, end in completions(responses).items()} == expected


def test_a_half_close_inside_a_character(inside: Inside) -> None:
    with channel_to(inside.target) as channel:
        sent = [_FIRST, chunk("d", "Le café".encode()[:-1])]
        (failed,) = errors(stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent), timeout=60))
    assert failed.item.document_id == "d" and failed.item_ended
