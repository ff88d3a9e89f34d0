"""What all benchmarks share: the corpora, the models, servers, and processes to load them from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from benchmarks.server.models import Model
from benchmarks.server.process import Server, running

J = TypeVar("J")
R = TypeVar("R")

SEED = 20
_GENERATORS = 5


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a benchmark finds things.

    Attributes:
        data: the corpora.
        work: made files that are kept from run to run.
        quick: few and short rounds, to see that everything works.
        flags: settings of every server.
        generators: processes for load generators, so that these share no interpreter with anything.
    """

    data: Path
    work: Path
    quick: bool
    flags: tuple[str, ...]
    generators: ProcessPoolExecutor

    @contextmanager
    def server(self, model: Model, *flags: str) -> Iterator[Server]:
        """A server of a model, with further settings."""
        with running(model.repository, model.name, *self.flags, *flags) as server:
            yield server

    def start(self, generator: Callable[[J], R], job: J) -> Future[R]:
        """Start a load generator."""
        return self.generators.submit(generator, job)

    def run(self, generator: Callable[[J], R], job: J) -> R:
        """Run a load generator to its end."""
        return self.start(generator, job).result()


@contextmanager
def bench(data: Path, work: Path, quick: bool, flags: tuple[str, ...]) -> Iterator[Bench]:
    """What benchmarks need, for as long as they run."""
    with ProcessPoolExecutor(_GENERATORS, get_context("spawn")) as generators:
        yield Bench(data, work, quick, flags, generators)
