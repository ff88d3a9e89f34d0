"""The models that requests can name, and the state of each version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kniv.server.changes import Changes
from kniv.server.errors import NotFoundError, NotReadyError, UnavailableError, shown
from kniv.server.models.version import Lease, LoadedVersion


class State(StrEnum):
    """Of a version, in Triton's words."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(slots=True, eq=False)
class VersionEntry:
    """What is known of a version.

    Attributes:
        state: its state.
        reason: why it is not ready, or why what serves is older than what is on disk; empty if all is well.
        loaded: what answers; None unless READY.
    """

    state: State
    reason: str = ""
    loaded: LoadedVersion | None = None

    @property
    def ready(self) -> bool:
        """Whether it can answer."""
        return self.loaded is not None and not self.loaded.hangs


class Catalogue:
    """Models by name, each with its versions by number. Changed by :class:`~kniv.server.models.control.ModelControl`.

    Args:
        default_model: the model of requests that name none; if empty, the first by name that is ready.

    Attributes:
        models: the models that there are.
        coming: names of models that the server is about to load as it starts.
        starting: whether it is not known yet which models there are.
        changes: told when a model, or a version of it, has changed its state.
    """

    def __init__(self, default_model: str = "") -> None:
        self.models: dict[str, dict[int, VersionEntry]] = {}
        self.coming: set[str] = set()
        self.starting = False
        self.changes = Changes()
        self._default = default_model

    @property
    def default_model(self) -> str:
        """The model of requests that name none."""
        if self._default:
            return self._default
        return next(filter(self.ready, self.names()), "")

    def ready(self, model: str) -> bool:
        """Whether a version of a model can answer."""
        return any(entry.ready for entry in self.models.get(model, {}).values())

    def any_ready(self) -> bool:
        """Whether any model can answer."""
        return any(map(self.ready, self.models))

    def names(self) -> list[str]:
        """Model names, sorted."""
        return sorted(self.models)

    def versions(self, model: str) -> dict[int, VersionEntry]:
        """Versions of a model by number, newest first.

        Raises:
            NotFoundError: there is no such model.
        """
        if model not in self.models:
            known = ", ".join(self.names()) or "none yet"
            raise NotFoundError(f"no model {shown(model)} here; there are: {known}")
        return dict(sorted(self.models[model].items(), reverse=True))

    def find(self, model: str, version: int = 0) -> LoadedVersion:
        """A version that can answer: empty for the default model, 0 for the newest ready version.

        Raises:
            NotFoundError: no such model or version.
            NotReadyError: it exists but cannot answer now.
            UnavailableError: the server is starting and has not loaded it yet, or its runs hang.
        """
        name = model or self.default_model
        if not self.ready(name) and (self.starting or name in self.coming or (not name and self.coming)):
            raise UnavailableError("the server is starting: the model is not loaded yet")
        if not name and any(entry.loaded is not None for known in self.models.values() for entry in known.values()):
            raise UnavailableError("runs of the models hang; another server may answer")
        if not name:
            raise NotReadyError("no model is ready")
        versions = self.versions(name)
        if version and version not in versions:
            known = ", ".join(str(number) for number in versions)
            raise NotFoundError(f"model '{name}' has no version {version}; there are: {known}")
        wanted = {version: versions[version]} if version else versions
        for entry in wanted.values():
            if entry.loaded is not None and entry.ready:
                return entry.loaded
        if any(entry.loaded is not None for entry in wanted.values()):
            raise UnavailableError(f"runs of model '{name}' hang; another server may answer")
        number, newest = next(iter(wanted.items()))
        if newest.state is State.LOADING:
            raise UnavailableError(f"model '{name}' version {number} is being loaded")
        reason = f": {newest.reason}" if newest.reason else ""
        raise NotReadyError(f"model '{name}' version {number} is not ready ({newest.state}){reason}")

    def lease(self, model: str, version: int = 0, variant: str = "") -> Lease:
        """Hold what a request names, until it ends.

        Raises:
            NotFoundError: no such model, version or variant.
            NotReadyError, UnavailableError: it exists but cannot answer now.
        """
        return self.find(model, version).lease(variant)
