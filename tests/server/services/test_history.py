from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.services.history import LONGEST, REVISABLE, History

# Place of a turn and what it says; None where it is cancelled.
STEPS = st.lists(st.tuples(st.integers(1, 60), st.sampled_from([None, "", "  ", "said", "said", "said"])), max_size=150)


def unbounded(said: dict[int, str], place: int, context_turns: int) -> list[str]:
    return [text for known, text in sorted(said.items()) if known < place][-context_turns:] if context_turns else []


@given(STEPS, st.integers(0, 5), st.lists(st.integers(1, 61), min_size=1))
def test_a_context_is_the_turns_right_before_as_far_as_they_are_remembered(
    steps: list[tuple[int, str | None]], context_turns: int, asked: list[int]
) -> None:
    history, said = History(context_turns), dict[int, str]()
    for number, (place, text) in enumerate(steps):
        if text is None:
            history.remove(place)
        else:
            history.add(place, text.replace("said", str(number)))
        said.pop(place, None)
        if text == "said":
            said[place] = str(number)
    for place in asked:
        expected = unbounded(said, place, context_turns)
        found = (history.before(place) or "").split()
        assert found == expected[len(expected) - len(found) :]
        if len({place for place, _ in steps}) <= context_turns + REVISABLE:
            assert found == expected


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, REVISABLE))
def test_a_revision_finds_the_context_of_its_time(context_turns: int, turns: int, back: int) -> None:
    history = History(context_turns)
    for place in range(1, turns + 1):
        history.add(place, str(place))
    place = max(1, turns - back + 1)
    expected = list(map(str, range(max(1, place - context_turns), place)))
    assert history.before(place) == (" ".join(expected) or None)


def test_a_turn_may_become_final_after_later_ones() -> None:
    history = History(2)
    history.add(2, "Two.")
    history.add(1, "One.")
    assert history.before(2) == "One."
    assert history.before(3) == "One. Two."


def test_a_turn_too_far_back_stays_forgotten() -> None:
    history = History(1)
    for place in range(1, REVISABLE + 3):
        history.add(place, str(place))
    for place in range(3, REVISABLE + 2):
        history.remove(place)
    history.add(1, "one")
    assert history.before(2) is None
    assert history.before(100) == str(REVISABLE + 2)


def test_of_a_long_turn_its_end_is_kept() -> None:
    history = History(1)
    history.add(1, "a" * LONGEST + "b" * LONGEST)
    assert history.before(2) == "b" * LONGEST
