"""Run in processes of their own: an arena keeps what it ever held, also of what ran before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not told apart from files' pages")

SERVED = """
import sys
from pathlib import Path
import numpy as np, psutil
from kniv.server import memory
memory.bound(1)
from kniv.server.runtime.providers import CPU, SessionSettings
from kniv.server.runtime.session import Session

def held():
    memory.give_back()
    now = psutil.Process().memory_info()
    return now.rss - now.shared

def served(arena):
    session = Session(Path(sys.argv[1]), CPU, SessionSettings(arena=arena))
    ids = np.zeros((16, 128), dtype=np.int64)
    session.run(ids, np.ones_like(ids), np.zeros(16, dtype=np.int64), session.answers)
    return session

Session(Path(sys.argv[1]))  # what the first load alone leaves, in the libraries
before = held()
first = served(True)
one = held() - before
second = served(True)
two = held() - before
del first, second
none = held() - before
again = served(True)
print(one, two, none, held() - before)
"""


@pytest.fixture(scope="module")
def held(mini: Path) -> tuple[int, int, int, int]:
    """Bytes held beside one load that has served, two, none, and then one again."""
    graph = next(mini.glob("*int8*.onnx"))
    ran = subprocess.run([sys.executable, "-c", SERVED, str(graph)], capture_output=True, text=True, check=True)
    one, two, none, again = map(int, ran.stdout.split())
    print("MiB held:", *(round(size / 2**20, 1) for size in (one, two, none, again)))
    return one, two, none, again


def test_a_second_load_needs_its_weights_alone(held: tuple[int, int, int, int]) -> None:
    one, two, none, _ = held
    weights = one - none
    assert none > 2 * (two - one)  # what the first one's run needed stays, and serves the second
    assert two - one < 1.25 * weights


def test_weights_go_with_their_load_and_runs_find_what_others_needed(held: tuple[int, int, int, int]) -> None:
    one, two, none, again = held
    weights = again - none
    assert weights == pytest.approx(one - none, rel=0.1) == pytest.approx(two - one, rel=0.25)
    assert weights > 10 << 20  # of kniv-mini's 27 MB; the rest, its embeddings, is mapped
