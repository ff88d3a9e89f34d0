from __future__ import annotations

from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.runtime.warmup import fill


class Recorder:
    """In the place of a session: each run but the first waits until as many others run as there are to be at once."""

    path = Path("cascade.onnx")
    answers = ("cls_logits",)

    def __init__(self, at_once: int) -> None:
        self.shapes: list[tuple[int, int]] = []
        self._barrier = Barrier(at_once, timeout=30)

    def run(self, ids: Any, mask: Any, predicates: Any, outputs: tuple[str, ...]) -> dict[str, Any]:
        first = not self.shapes
        self.shapes.append(ids.shape)
        assert mask.shape == ids.shape and mask.all()
        assert predicates.shape == ids.shape[:1] and outputs == self.answers
        if not first:
            self._barrier.wait()
        return {}


@given(st.integers(1, 4), st.integers(1, 64), st.integers(1, 2048), st.integers(64, 512))
def test_the_largest_batches_run_side_by_side_and_none_is_larger_than_the_scheduler_makes(
    at_once: int, rows: int, tokens: int, longest: int
) -> None:
    session: Any = Recorder(at_once)
    fill(session, at_once, rows, tokens, longest)
    assert session.shapes[0] == (1, longest)
    largest = session.shapes[1:]
    assert len(largest) == 2 * at_once
    for count, length in largest:
        assert 1 <= count <= rows and length <= longest
        assert count == 1 or count * length <= tokens
    # As many rows as there may be of the longest, and as many rows as there may be at all.
    assert largest[0] == (max(1, min(rows, tokens // longest)), longest)
    assert max(count for count, _ in largest) == min(rows, max(1, tokens))


def test_a_run_that_fails_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    session: Any = Recorder(1)
    session.answers = ("ner_logits",)
    session.run = lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory\nsomewhere"))
    fill(session, 1, 8, 512, 128)
    assert caplog.messages == ["cascade.onnx fails on the largest batch that it may get: out of memory"]
