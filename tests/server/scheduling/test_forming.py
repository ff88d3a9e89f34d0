from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.scheduling.forming import BatchLimits, form
from kniv.server.scheduling.row import Row

OUTPUTS = (("pos_logits",), ("srl_logits",), ("cls_logits",))


def row(length: int, outputs: tuple[str, ...], priority: int) -> Row[object]:
    return Row(np.ones(length, dtype=np.int64), 0, outputs, lambda values: None, priority)


rows = st.builds(row, st.integers(2, 128), st.sampled_from(OUTPUTS), st.integers(1, 3))
limits = st.builds(BatchLimits, st.integers(1, 600), st.integers(1, 16), st.floats(1, 4))


@given(st.lists(rows, min_size=1, max_size=40), limits)
def test_a_batch_keeps_its_limits_and_wants_one_set_of_outputs(waiting: list[Row[object]], limit: BatchLimits) -> None:
    chosen = form(waiting, limit)
    lengths = [len(waiting[index].ids) for index in chosen]
    assert len(set(chosen)) == len(chosen) >= 1
    assert len({waiting[index].outputs for index in chosen}) == 1
    assert len(chosen) <= limit.rows
    if len(chosen) > 1:
        assert max(lengths) * len(lengths) <= limit.tokens
        assert max(lengths) <= limit.stretch * min(lengths)


@given(st.lists(rows, min_size=1, max_size=40), limits)
def test_the_most_urgent_row_leads_and_the_first_come_among_equals(
    waiting: list[Row[object]], limit: BatchLimits
) -> None:
    lead = form(waiting, limit)[0]
    urgent = min(row.priority for row in waiting)
    assert lead == next(index for index, row in enumerate(waiting) if row.priority == urgent)


@given(st.lists(rows, min_size=1, max_size=40), limits)
def test_every_row_is_served_in_the_end(waiting: list[Row[object]], limit: BatchLimits) -> None:
    left = list(waiting)
    while left:
        chosen = set(form(left, limit))
        assert chosen
        left = [row for index, row in enumerate(left) if index not in chosen]
