from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kniv.server.models.poller import Poller

NAMES = ("a", "b")


class Polling(RuleBasedStateMachine):
    """Folders that are copied in pieces while the poller looks; it must take them whole, and all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.copies = 0
        self.disk: dict[str, int] = {}  # name → number of the last change
        self.looks: list[dict[str, int]] = []
        self.taken: dict[str, int] = {}

    @initialize()
    def start(self) -> None:
        (self.root / "c" / "1").mkdir(parents=True)
        self.disk = self.taken = {"c": 0}
        self.poller = Poller(self.root)
        self.looks = [dict(self.disk)]

    @rule(name=st.sampled_from(NAMES), file=st.sampled_from(["x", "y"]))
    def write(self, name: str, file: str) -> None:
        self.copies += 1
        folder = self.root / name / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"." * self.copies)
        self.disk = {**self.disk, name: self.copies}

    @precondition(lambda self: any(name in self.disk for name in NAMES))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(set(self.disk) - {"c"})))
        shutil.rmtree(self.root / name)
        self.disk = {known: change for known, change in self.disk.items() if known != name}

    @rule()
    def look(self) -> None:
        changed = self.poller.changed()
        before, self.looks = self.looks[-1], [*self.looks, dict(self.disk)]
        for name in changed:
            assert before.get(name) == self.disk.get(name), "taken while it was being copied"
            assert self.taken.get(name) != self.disk.get(name), "taken although nothing had changed"
        self.taken = {name: change for name, change in self.taken.items() if name not in changed}
        self.taken |= {name: self.disk[name] for name in changed if name in self.disk}
        for name in {*self.disk, *self.taken}:
            if before.get(name) == self.disk.get(name):
                assert self.taken.get(name) == self.disk.get(name), "left although it was still"

    @invariant()
    def what_never_changed_is_never_taken(self) -> None:
        assert self.taken.get("c", 0) == 0

    def teardown(self) -> None:
        shutil.rmtree(self.root)


TestPolling = Polling.TestCase
TestPolling.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
