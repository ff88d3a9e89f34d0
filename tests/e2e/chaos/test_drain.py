"""Draining over and over, with all the ways for its ends to meet: a process of its own, for a crash would end it."""

from __future__ import annotations

import subprocess
import sys

_DRAINS = """
import asyncio
from kniv.server.front import Front
from kniv.server.models.catalogue import Catalogue
from kniv.server.settings import ServeSettings

async def main():
    loop = asyncio.get_running_loop()
    for number in range(100):
        draining, forced = asyncio.Event(), asyncio.Event()
        front = Front(ServeSettings(port=0), Catalogue(), None, draining)
        await front.start()
        draining.set()
        if number % 3 == 0:
            loop.call_later(0.001 * (number % 7), forced.set)
        await front.drain((0.0, 0.001, 0.002, 30.0)[number % 4], forced)
        assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

asyncio.run(main())
"""


def test_a_hundred_drains() -> None:
    done = subprocess.run([sys.executable, "-c", _DRAINS], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
