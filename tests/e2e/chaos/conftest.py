"""A server to look into, and the long rounds that ``KNIV_CHAOS=1`` asks for."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.chaos.callers import fresh
from tests.e2e.chaos.inside import Inside

SLOTS, ROOM, HELD = 2, 64, 64  # batches side by side; rows in all; sentences in flight of one stream

LASTS = 30.0  # seconds of each long storm

long = pytest.mark.skipif(os.environ.get("KNIV_CHAOS") != "1", reason="takes minutes; set KNIV_CHAOS=1")


def seed() -> int:
    """A seed of its own for each run, printed so that a failure can be had again."""
    chosen = random.SystemRandom().randrange(1 << 32)
    print(f"seed {chosen}")
    return chosen


# Not for the session: other tests have event loops of their own, and gRPC wants one at a time.
@pytest.fixture(scope="module")
def serving(tiny_repository: Path) -> Iterator[Inside]:
    """One server for the tests of a file."""
    inside = Inside(tiny_repository, parallel_runs=SLOTS, queue_rows=ROOM, stream_sentences=HELD)
    with inside.running():
        fresh(inside.target)
        inside.rest()
        yield inside


@pytest.fixture
def inside(serving: Inside) -> Iterator[Inside]:
    """The server; after the test, as before: all that was held is back, and a fresh call is answered as before."""
    serving.gate.open()
    before = fresh(serving.target)
    yield serving
    serving.settle()
    serving.gate.open()
    assert fresh(serving.target) == before
    serving.settle()
