from __future__ import annotations

import subprocess
import sys

import pytest

from kniv.server import memory

GROWN = """
import threading
import numpy, psutil
from kniv.server import memory
memory.bound(1)
def hold(kept):
    # Blocks under the size that has a mapping of its own, with small ones that stay between them.
    large = []
    for _ in range(400):
        large.append(numpy.ones(1 << 16))
        kept.append(numpy.ones(1 << 8))
kept = []
threads = [threading.Thread(target=hold, args=(kept,)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
before = psutil.Process().memory_info().rss
memory.give_back()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is that of Linux")
def test_what_is_freed_between_blocks_that_stay_goes_back() -> None:
    given = subprocess.run([sys.executable, "-c", GROWN], capture_output=True, text=True, check=True)
    assert int(given.stdout) > 100 << 20


def test_what_the_environment_sets_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    class Library:
        mallopt = staticmethod(lambda option, value: told.append((option, value)))

    monkeypatch.setattr(memory, "_glibc", Library)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    memory.bound(2)
    assert sorted(option for option, _ in told) == [-3, -1]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    memory.bound(2)
    memory.give_back()
