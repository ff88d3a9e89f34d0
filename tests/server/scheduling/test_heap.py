from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kniv.server.scheduling.heap import LazyHeap


class Member:
    def __init__(self, key: int) -> None:
        self.key, self.live = key, True


moves = st.lists(st.tuples(st.sampled_from(("push", "push", "kill", "grow", "again", "first")), st.integers(0, 1000)))


@given(moves)
def test_the_first_is_the_living_one_with_the_smallest_key_that_came_first(moves: list[tuple[str, int]]) -> None:
    heap: LazyHeap[Member] = LazyHeap(lambda member: member.key, lambda member: member.live)
    members: list[Member] = []
    for move, number in moves:
        chosen = members[number % len(members)] if members else None
        if move == "push":
            members.append(Member(number))
            heap.push(members[-1])
        elif chosen is not None and move == "kill":
            chosen.live = False
        elif chosen is not None and move == "grow":
            chosen.key += number
        elif chosen is not None and move == "again" and chosen.live:
            heap.push(chosen)
        first = heap.first()
        living = [member for member in members if member.live]
        assert (first is None) == (not living)
        assert first is None or first.key == min(member.key for member in living)


@given(st.integers(1, 50), st.integers(200, 3000))
def test_it_does_not_grow_with_the_dead_nor_with_repetitions(kept: int, pushed: int) -> None:
    heap: LazyHeap[Member] = LazyHeap(lambda member: member.key, lambda member: member.live)
    living = [Member(0) for _ in range(kept)]
    for member in living:
        heap.push(member)
    for number in range(pushed):
        brief = Member(1)
        heap.push(brief)
        brief.live = False
        heap.push(living[number % kept])
    assert len(heap) <= max(64, 2 * kept) + 2


def test_equals_come_out_in_the_order_in_which_they_came() -> None:
    heap: LazyHeap[Member] = LazyHeap(lambda member: member.key, lambda member: member.live)
    members = [Member(1) for _ in range(200)]
    for member in members:
        heap.push(member)
    for member in members:
        assert heap.first() is member
        member.live = False
