"""What a server does from its start to its first answer, one after the other, each part timed; prints JSON.

python -m benchmarks.server.startup_parts REPOSITORY MODEL
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path


class Laps:
    """Seconds of each part."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, part: str) -> None:
        """A part has been done; parts of one name count together."""
        self.found[part] = self.found.get(part, 0.0) + time.perf_counter() - self._last
        self.skip()

    def skip(self) -> None:
        """What was done since the last part is not counted."""
        self._last = time.perf_counter()


def main(repository: Path, model: str) -> dict[str, float]:
    """Do it all in this process."""
    laps = Laps()
    import kniv.server.cli

    laps.done("imports: command")
    import kniv.server.app  # noqa: F401 - for the time that it takes

    laps.done("imports: server")
    from kniv.server.pipeline.encode import Encoder
    from kniv.server.repository.config import load_config
    from kniv.server.repository.labels import Labels
    from kniv.server.repository.layout import find
    from kniv.server.repository.manifest import Snapshot, verify
    from kniv.server.repository.metadata import Metadata
    from kniv.server.runtime.session import Session
    from kniv.server.runtime.warmup import fill, warm

    asyncio.run(_listen(laps, repository))
    folder = find(repository, model)
    config = load_config(folder.path, default_device="cpu")
    files = folder.versions[-1]
    Snapshot.of(files.folder)
    verify(files.folder)
    laps.done("repository, checksums")
    labels, limits = Labels.load(files.labels), Metadata.load(files.metadata)
    encoder = Encoder(files.tokenizer, limits)
    laps.done("tokenizer")
    for path in config.graphs(files, "cpu").values():
        session = Session(path)
        laps.done("graph, session")
        session.check(labels, encoder.vocabulary, limits.max_subwords)
        warm(session, config.warmup, folder.path)
        laps.done("warm-up")
        fill(session, 2, 8, 512, limits.max_subwords)  # as on two cores
        laps.done("largest batches")
    from kniv.server.pipeline.segment import sentences

    list(sentences("Hello there. How are you?"))
    laps.done("segmenter")
    return laps.found


async def _listen(laps: Laps, repository: Path) -> None:
    from kniv.server.front import Front
    from kniv.server.models.catalogue import Catalogue
    from kniv.server.settings import ServeSettings

    front = Front(ServeSettings(port=0, model_repository=repository), Catalogue(), None, asyncio.Event())  # type: ignore[arg-type]
    await front.start()
    laps.done("listen")
    await front.drain(0.0, asyncio.Event())
    laps.skip()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
