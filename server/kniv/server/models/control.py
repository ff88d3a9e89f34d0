"""Which versions are loaded: loading, reloading and unloading while requests go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from kniv.server import memory
from kniv.server.errors import NotAllowedError, NotFoundError, RepositoryError, ServeError, shown
from kniv.server.models.catalogue import Catalogue, State, VersionEntry
from kniv.server.models.modes import ControlMode
from kniv.server.models.opening import open_version, settle
from kniv.server.models.version import LoadedVersion, RunOptions
from kniv.server.repository.config import Device, ModelConfig, config_from_json, load_config
from kniv.server.repository.layout import ModelFolder, VersionFiles, find, models
from kniv.server.repository.manifest import Snapshot

log = logging.getLogger(__name__)


class ModelControl:
    """Loads and unloads the models of a repository into a catalogue. For one event loop.

    A version is loaded, checked and warmed off the loop and then takes the place of the one before it in one
    step; that one goes on for the requests that hold it. A failed load changes nothing but the reason shown.

    Args:
        root: the repository.
        catalogue: what requests see.
        options: how to run models.
        threads: threads inside one run where a model's configuration names no number.
        device: where models run whose configuration leaves it open.
        mode: who decides what is loaded.
    """

    def __init__(
        self,
        root: Path,
        catalogue: Catalogue,
        options: RunOptions,
        threads: int = 1,
        device: Device = "cpu",
        mode: ControlMode = ControlMode.NONE,
    ) -> None:
        self.root, self.catalogue, self.mode = root, catalogue, mode
        self._options, self._threads, self._device = options, threads, device
        self._overrides: dict[str, ModelConfig] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, names: Iterable[str] | None = None) -> list[ServeError]:
        """Load models when the server starts, the default one first; one that cannot be loaded stops no other.

        Requests for those that are not there yet are told to come back.

        Args:
            names: the models; None for all.

        Returns:
            Why models could not be loaded.

        Raises:
            RepositoryError: the repository cannot be read.
        """
        if names is None:
            folders = await asyncio.to_thread(models, self.root)
            for folder in folders:
                if not folder.versions and not folder.problem:
                    log.info("model %s has no version yet; kniv-serve pull may bring one", folder.name)
            names = [folder.name for folder in folders if folder.versions or folder.problem]
        first = self.catalogue.default_model
        names = sorted(names, key=lambda name: name != first)
        self.catalogue.coming, self.catalogue.starting = set(names), False
        self.catalogue.changes.tell()
        failures = []
        for name in names:
            try:
                await self._load(name, None)
            except ServeError as error:
                log.error("model %s cannot be loaded: %s", name, error)
                failures.append(error)
            finally:
                self.catalogue.coming.discard(name)
                self.catalogue.changes.tell()
        return failures

    async def load(self, name: str, override: str | None = None) -> None:
        """Load a model, or bring a loaded one up to what is on disk; versions that have not changed are left alone.

        A load that has begun goes on when its caller is gone, or its version would be in the middle of it for ever.

        Args:
            name: the model's.
            override: a configuration in JSON to use in place of config.pbtxt, until the next load.

        Raises:
            NotAllowedError: the control mode leaves this to the repository.
            InvalidRequestError: no model can have this name.
            NotFoundError: the repository has no such model.
            RepositoryError: a version could not be loaded; what served before still does.
        """
        self._explicit()
        await asyncio.shield(self._begin(self._load(name, override)))

    async def unload(self, name: str) -> None:
        """Take a model away from new requests; those under way end as they would have.

        Raises:
            NotAllowedError: the control mode leaves this to the repository.
            NotFoundError: there is no such model.
        """
        self._explicit()
        async with self._lock(name):
            if name not in self.catalogue.models:
                raise NotFoundError(f"no model {shown(name)} is loaded")
            self._overrides.pop(name, None)
            for number in list(self.catalogue.models[name]):
                self._retire(name, number, "unloaded")

    async def refresh(self, name: str) -> None:
        """Bring one model up to what is on disk, or take it away if it is there no more; the poller's move."""
        try:
            await self._load(name, None)
        except NotFoundError:
            async with self._lock(name):
                for number in list(self.catalogue.models.get(name, {})):
                    self._retire(name, number, "its folder is gone")
        except RepositoryError as error:
            log.error("model %s cannot be brought up to date: %s", name, error)

    async def index(self) -> dict[str, dict[int, VersionEntry]]:
        """All models of the repository, loaded or not, with their versions.

        Raises:
            RepositoryError: the repository cannot be read.
        """
        found: dict[str, dict[int, VersionEntry]] = {}
        for folder in await asyncio.to_thread(models, self.root):
            entries = {files.version: VersionEntry(State.UNAVAILABLE, folder.problem) for files in folder.versions}
            found[folder.name] = entries
        for name, known in self.catalogue.models.items():
            found.setdefault(name, {}).update(known)
        return {name: dict(sorted(found[name].items())) for name in sorted(found)}

    def _explicit(self) -> None:
        if self.mode is not ControlMode.EXPLICIT:
            raise NotAllowedError(
                f"models are not loaded or unloaded by callers here: the control mode is '{self.mode}'; "
                "start the server with --model-control-mode explicit"
            )

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _load(self, name: str, override: str | None) -> None:
        async with self._lock(name):
            folder = await asyncio.to_thread(find, self.root, name)  # as it is once it is this load's turn
            entries = self.catalogue.models.setdefault(name, {})
            try:
                config = await asyncio.to_thread(self._configured, folder, override)
                wanted = config.version_policy.choose([files.version for files in folder.versions])
                if not wanted:
                    raise RepositoryError(folder.path, "holds no version folder; expected <model>/1/cascade-int8.onnx")
            except RepositoryError as error:
                # Nothing is known of the versions wanted; those that serve go on.
                for entry in entries.values():
                    entry.reason = str(error)
                if not entries:
                    entries.update({f.version: VersionEntry(State.UNAVAILABLE, str(error)) for f in folder.versions})
                    self.catalogue.changes.tell()
                raise
            failures = [
                failure
                for files in folder.versions
                if files.version in wanted and (failure := await self._load_version(files, config)) is not None
            ]
            if failures:
                # What they were to replace goes on; after a restart, when nothing does, it is sought anew.
                if config.version_policy.kind == "latest":
                    await self._fall_back([files for files in folder.versions if files.version < min(wanted)], config)
                raise failures[0]
            for number in [number for number in entries if number not in wanted]:
                self._retire(name, number, "no longer chosen by the version policy")

    def _configured(self, folder: ModelFolder, override: str | None) -> ModelConfig:
        if override is not None:
            return config_from_json(override, folder.name, default_device=self._device)
        return load_config(folder.path, default_device=self._device)

    async def _load_version(self, files: VersionFiles, config: ModelConfig) -> RepositoryError | None:
        """Load one version and put it in the place of the one before it; the error if it cannot be."""
        entries = self.catalogue.models[files.model]
        entry = entries.setdefault(files.version, VersionEntry(State.LOADING))
        if await self._unchanged(entry, files, config):
            entry.reason = ""
            return None
        if entry.loaded is None:
            entry.state, entry.reason = State.LOADING, ""
        log.info("model %s version %d: loading", files.model, files.version)
        try:
            opened = await asyncio.to_thread(open_version, files, config, self._threads)
            await asyncio.to_thread(settle, opened, self._options.slots, self._options.limits)
            loaded = LoadedVersion(opened, self._options)
        except Exception as error:  # whatever a broken model or a full memory brings forth, the others go on
            failure = error
            if not isinstance(failure, RepositoryError):
                failure = RepositoryError(files.folder, f"cannot be loaded: {type(error).__name__}: {error}")
                failure.__cause__ = error
            entry.reason = str(failure)
            if entry.loaded is None:
                entry.state = State.UNAVAILABLE
                self.catalogue.changes.tell()
            return failure
        before, entry.loaded = entry.loaded, loaded
        entry.state, entry.reason = State.READY, ""
        self.catalogue.changes.tell()
        log.info("model %s version %d is ready: %s", files.model, files.version, ", ".join(opened.variants))
        if before is not None:
            self._begin(self._forget(before, None))
        return None

    async def _fall_back(self, older: Iterable[VersionFiles], config: ModelConfig) -> None:
        """Load the newest of these versions that can be, if no version of their model serves."""
        for files in older:
            if any(entry.ready for entry in self.catalogue.models[files.model].values()):
                return
            await self._load_version(files, config)

    async def _unchanged(self, entry: VersionEntry, files: VersionFiles, config: ModelConfig) -> bool:
        if entry.loaded is None or entry.loaded.hangs or entry.loaded.opened.config.message != config.message:
            return False
        now: Snapshot = await asyncio.to_thread(Snapshot.of, files.folder)
        return now == entry.loaded.opened.snapshot

    def _retire(self, name: str, number: int, reason: str) -> None:
        entry = self.catalogue.models[name][number]
        loaded, entry.loaded = entry.loaded, None
        entry.reason = reason
        self.catalogue.changes.tell()
        if loaded is None:
            entry.state = State.UNAVAILABLE
            return
        entry.state = State.UNLOADING
        log.info("model %s version %d: unloading, %s", name, number, reason)
        self._begin(self._forget(loaded, entry))

    async def _forget(self, loaded: LoadedVersion, entry: VersionEntry | None) -> None:
        """Wait for the last request of a version; only then is it forgotten."""
        await loaded.retire()
        if entry is not None and entry.state is State.UNLOADING:
            entry.state = State.UNAVAILABLE
        log.info("model %s version %d: the earlier load is freed", loaded.model, loaded.number)
        del loaded  # or this task would still hold it
        await asyncio.to_thread(memory.give_back)  # which walks through all of the heap

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop alone would not keep it
        task.add_done_callback(self._tasks.discard)
        return task
