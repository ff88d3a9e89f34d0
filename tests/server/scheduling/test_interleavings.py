"""The event loop and the threads of runs in any order: nothing is lost, and nobody waits for what has happened."""

from __future__ import annotations

from math import inf
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.scheduling.play import EVIL, Act, End, Fail, Leave, Let, Play, Rest, Send, Wait, told

from kniv.server.scheduling import execute as executing
from kniv.server.scheduling import owner as owning
from kniv.server.scheduling.policy import Admission

ids = st.lists(st.integers(1, 600), min_size=1, max_size=3).map(tuple)
evil = st.sampled_from([(1, EVIL), *[(number,) for number in range(1, 8)]])
sends = st.builds(
    Send,
    client=st.integers(0, 3),
    rows=st.lists(ids | evil, min_size=1, max_size=5).map(tuple),
    level=st.integers(1, 2),
    patient=st.sampled_from((True, True, False)),
    leads=st.booleans(),
    deadline=st.sampled_from((inf, inf, inf, 0.1, 0.4)),
    ago=st.sampled_from((None, None, None, 0.5)),
)
calm = st.one_of(
    sends,
    sends,
    sends,
    st.builds(Leave, st.integers(0, 9)),
    st.builds(Wait, st.sampled_from((0.001, 0.006, 0.02, 0.15))),
    st.builds(Let, st.integers(0, 3), st.sampled_from((False, False, True))),
    st.just(Rest()),
)
wild = st.one_of(
    calm,
    calm,
    st.builds(Wait, st.sampled_from((0.3, 0.6, 1.1))),
    st.builds(Fail, st.integers(0, 3), st.sampled_from((RuntimeError, MemoryError)), st.booleans(), st.integers(0, 2)),
    st.builds(End, st.booleans()),
)
ends = st.builds(End, st.booleans())
steps = st.integers(0, 40)
rooms = st.builds(
    Admission, items=st.integers(1, 8), bytes=st.sampled_from((100, 1 << 20)), client_items=st.integers(1, 8)
)
plays = st.builds(
    Play,
    slots=st.integers(1, 3),
    rows=st.integers(1, 4),
    admission=rooms,
    delay=st.sampled_from((0.0, 0.0, 0.01)),
    opened=st.sampled_from((False, False, True)),
    order=st.lists(st.integers(0, 11), max_size=40),
)


@given(st.data(), st.sampled_from((calm, wild)))
@settings(max_examples=400, deadline=None)
def test_whoever_goes_on_first_every_row_ends_once_and_nobody_waits_in_vain(
    data: st.DataObject, acts: st.SearchStrategy[Act]
) -> None:
    script = data.draw(st.lists(st.tuples(acts, steps), min_size=10, max_size=25))
    ending = data.draw(st.lists(st.tuples(ends | sends, steps), max_size=3))
    play = data.draw(plays)
    still = lambda: play.now  # noqa: E731 - what runs take is not what is tried here
    try:
        with (
            told() as heard,
            patch.object(executing, "perf_counter", still),
            patch.object(owning, "perf_counter", still),
        ):
            for act, count in script + ending:
                play.act(act)
                play.go(count)
            play.end()
            assert max(heard.values(), default=0) <= 1
    finally:
        play.close()


def one(client: int, deadline: float = inf) -> Send:
    """A patient row."""
    return Send(client, ((client + 1,),), 1, True, False, deadline, None)


# One row runs, one waits in the queue, and two wait outside for room.
FULL: tuple[Act, ...] = (one(0), Rest(), one(1, 0.1), one(2), one(3), Rest())


@pytest.mark.parametrize(
    "acts",
    [
        (Let(1, False),),
        (Leave(0),),
        (Leave(1),),
        (Leave(2),),
        (Wait(0.15),),
        (Wait(1.1), Rest(), Wait(0.6)),
        (Fail(0, RuntimeError, False, 1), Let(1, False), Rest(), Wait(1.1), Rest(), Wait(0.6)),
        (Fail(1, RuntimeError, False, 0), Let(2, False)),
        (Fail(1, RuntimeError, True, 0), Let(2, False)),
        (Fail(1, MemoryError, False, 0), Let(2, False)),
        (End(hand_back=False), Let(1, False)),
        (End(hand_back=True),),
    ],
    ids=repr,
)
@pytest.mark.parametrize("order", [[0], [1, 0], [2, 1, 0, 3, 1]], ids=str)
def test_whatever_makes_room_lets_those_in_who_wait_for_it(acts: tuple[Act, ...], order: list[int]) -> None:
    play = Play(1, 1, Admission(items=3), 0.0, False, order)
    try:
        with told() as heard:
            for act in (*FULL, *acts, Rest()):
                play.act(act)
            play.end()
            assert max(heard.values()) == 1
    finally:
        play.close()
