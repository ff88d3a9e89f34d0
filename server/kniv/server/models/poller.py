"""The poll mode: the repository is looked at now and then, and what has changed is loaded."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from kniv.server.errors import RepositoryError
from kniv.server.models.control import ModelControl
from kniv.server.repository.layout import models
from kniv.server.repository.manifest import Snapshot

log = logging.getLogger(__name__)


class Poller:
    """Finds the models that have changed and are whole; what is there at the first look counts as taken.

    A model is taken only when two looks in a row found the same files, so that a folder that is being copied is
    left until it has been still for one interval; checksum manifests are compared when it is loaded.

    Args:
        root: the repository.

    Raises:
        RepositoryError: the repository cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = self._taken = _look(root)

    def changed(self) -> list[str]:
        """Look once; names of the models to bring up to date, those that are gone among them.

        Raises:
            RepositoryError: the repository cannot be read.
        """
        seen = _look(self._root)
        still = {name for name, snapshot in seen.items() if self._seen.get(name) == snapshot}
        gone = {name for name in self._taken if name not in seen and name not in self._seen}
        changed = sorted({name for name in still if self._taken.get(name) != seen[name]} | gone)
        self._taken = {name: snapshot for name, snapshot in self._taken.items() if name not in gone}
        self._taken |= {name: seen[name] for name in changed if name in seen}
        self._seen = seen
        return changed


async def poll(control: ModelControl, poller: Poller, seconds: float) -> None:
    """Keep a catalogue in step with the repository until cancelled; what cannot be read is tried again.

    Args:
        control: loads and unloads.
        poller: has looked before ``control`` loaded anything, so that no change falls in between.
        seconds: between two looks.
    """
    while True:
        await asyncio.sleep(seconds)
        try:
            for name in await asyncio.to_thread(poller.changed):
                log.info("model %s has changed on disk", name)
                await control.refresh(name)
        except RepositoryError as error:
            log.warning("the repository cannot be polled: %s", error)
        except Exception:  # no threads or no memory, say: what serves goes on
            log.exception("the repository could not be looked at; that is tried again")


def _look(root: Path) -> dict[str, Snapshot]:
    return {folder.name: Snapshot.of(folder.path) for folder in models(root)}
