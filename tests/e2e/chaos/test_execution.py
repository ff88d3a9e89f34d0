"""Runs that fail: the guilty row alone is answered with an error, its batch-mates as if it had not been there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2
from tests.e2e.chaos.callers import ONE_ROW, TEXT, channel_to, fresh, unary
from tests.e2e.chaos.conftest import SLOTS
from tests.e2e.chaos.gate import Spoil
from tests.e2e.chaos.inside import Inside
from tests.e2e.wire import completions, configuration, errors, sentences_of, turn

from kniv.server.scheduling.row import Floats, Ints
from kniv.v1 import annotation_service_pb2_grpc as stubs

GUILTY = "We walked along the river and saw three zebras."  # as long as the others, so that it shares their batch
NEIGHBOURS = 6


def raises(error: Exception) -> Spoil:
    """A run with the guilty row fails."""

    def spoil(guilty: Ints, run: Callable[[], dict[str, Floats]]) -> dict[str, Floats]:
        if guilty.size:
            raise type(error)(*error.args)  # a new one, as an exception holds on to all that it has passed
        return run()

    return spoil


def not_finite(value: float) -> Spoil:
    """The guilty row's outputs hold such a value."""

    def spoil(guilty: Ints, run: Callable[[], dict[str, Floats]]) -> dict[str, Floats]:
        outputs = {name: np.array(values) for name, values in run().items()}
        for values in outputs.values():
            values[guilty, 0] = value
        return outputs

    return spoil


SPOILS = {
    "exception": raises(RuntimeError("as the test wants it")),
    "out of memory": raises(MemoryError()),
    "out of the arena's memory": raises(RuntimeError("Failed to allocate memory for requested buffer of size 1")),
    "NaN": not_finite(float("nan")),
    "infinity": not_finite(float("inf")),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_the_guilty_row_alone_fails(inside: Inside, spoil: Spoil) -> None:
    inside.gate.shut()
    with ExitStack() as stack:
        held = []
        for slot in range(SLOTS):  # what comes next waits, and is batched together
            held.append(unary(stack.enter_context(channel_to(inside.target))))
            inside.until(lambda slot=slot: inside.engine.running == slot + 1, "a batch in each slot")
        sent = [turn(str(number), GUILTY if number == 3 else TEXT) for number in range(NEIGHBOURS + 1)]
        channel = stack.enter_context(channel_to(inside.target))
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter([configuration(options=ONE_ROW), *sent]))
        inside.until(lambda: inside.engine.items == SLOTS + len(sent), "all rows in the queue")
        inside.gate.spoil(inside.subwords(GUILTY), spoil)
        inside.gate.let(1000)
        responses = list(call)
        assert {one.code() for one in held} == {grpc.StatusCode.OK}
        (failed,) = errors(responses)
        assert (failed.item.turn_id, failed.error.code, failed.item_ended) == ("3", code_pb2.INTERNAL, True)
        assert set(completions(responses)) == {str(number) for number in range(NEIGHBOURS + 1)} - {"3"}
        assert all(len(sentences_of(responses, name)) == 1 for name in completions(responses))
    inside.gate.open()
    fresh(inside.target)


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_model_that_fails_every_row_answers_again_once_it_is_well(inside: Inside, spoil: Spoil) -> None:
    inside.gate.spoil(inside.subwords(TEXT), spoil)
    with channel_to(inside.target) as channel:
        requests = [configuration(options=ONE_ROW), *(turn(str(number), TEXT) for number in range(5))]
        responses = list(stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(requests)))
        assert {failed.error.code for failed in errors(responses)} == {code_pb2.INTERNAL}
        assert len(errors(responses)) == 5 and not completions(responses)
        inside.gate.open()
        assert unary(channel).code() == grpc.StatusCode.OK
