"""A gate before the model, so that a test decides when a batch may run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kniv.server.scheduling.engine import Engine
from kniv.server.scheduling.execute import Runner, Switch
from kniv.server.scheduling.handle import Lane
from kniv.server.scheduling.observe import Observer
from kniv.server.scheduling.policy import Batching, BatchLimits
from kniv.server.scheduling.row import Floats, Ints

_LOOK_SECONDS = 0.005  # between two looks at a run's switch

# What becomes of a run, given the places of the guilty rows in its batch, and the run itself.
Spoil = Callable[[Ints, Callable[[], dict[str, Floats]]], dict[str, Floats]]


class Gate:
    """Lets runs through: all of them while it is open, so many while it is shut."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open, self._tickets = True, 0
        self.broken_from = 1 << 30  # subwords from which on a run fails at once
        self._guilty: Ints | None = None
        self._spoil: Spoil | None = None

    def open(self) -> None:
        """Let everything through, and nothing fail."""
        self.broken_from = 1 << 30
        self._spoil = None
        self._set(True, 0)

    def shut(self) -> None:
        """Let nothing through any more."""
        self._set(False, 0)

    def let(self, runs: int) -> None:
        """Let so many more through."""
        self._set(False, self._tickets + runs)

    def _set(self, opened: bool, tickets: int) -> None:
        with self._changed:
            self._open, self._tickets = opened, tickets
            self._changed.notify_all()

    def spoil(self, guilty: Ints, spoil: Spoil) -> None:
        """Have every run go as ``spoil`` says, by the rows in it of these subwords [S]."""
        self._guilty, self._spoil = guilty, spoil

    def run(self, ids: Ints, run: Callable[[], dict[str, Floats]]) -> dict[str, Floats]:
        """Run a batch that has been let through."""
        if self._spoil is None or self._guilty is None:
            return run()
        size = len(self._guilty)
        same = (ids[:, :size] == self._guilty).all(axis=1) if ids.shape[1] >= size else np.zeros(len(ids), dtype=bool)
        return self._spoil(np.flatnonzero(same), run)

    def pass_through(self, switch: Switch) -> None:
        """Wait to be let through.

        Raises:
            RuntimeError: the run was told to stop.
        """
        with self._changed:
            while not (self._open or self._tickets):
                if switch.terminate:
                    raise RuntimeError("stopped at the gate")
                self._changed.wait(_LOOK_SECONDS)
            if not self._open:
                self._tickets -= 1


class GatedRunner:
    """A model behind a gate."""

    def __init__(self, runner: Runner, gate: Gate) -> None:
        self._runner, self._gate = runner, gate

    def switch(self) -> Switch:
        return self._runner.switch()

    def run(
        self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...], switch: Switch
    ) -> dict[str, Floats]:
        if ids.shape[1] >= self._gate.broken_from:
            raise RuntimeError("broken, as the test wants it")
        self._gate.pass_through(switch)
        return self._gate.run(ids, lambda: self._runner.run(ids, mask, predicates, outputs, switch))


class GatedEngine(Engine):
    """An engine, all models of which stand behind one gate."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gate = Gate()

    def lane(
        self,
        name: str,
        runners: Mapping[str, Runner],
        batching: Batching,
        limits: BatchLimits,
        instances: Mapping[str, int],
        observer: Observer,
    ) -> Lane:
        gated = {pool: GatedRunner(runner, self.gate) for pool, runner in runners.items()}
        return super().lane(name, gated, batching, limits, instances, observer)
