"""The models that requests can name, and the state of each version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kniv.server.errors import NotFoundError, NotReadyError, shown
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
        return self.loaded is not None


class Catalogue:
    """Models by name, each with its versions by number. Changed by :class:`~kniv.server.models.control.ModelControl`.

    Args:
        default_model: the model of requests that name none; if empty, the first by name that is ready.
    """

    def __init__(self, default_model: str = "") -> None:
        self.models: dict[str, dict[int, VersionEntry]] = {}
        self._default = default_model

    @property
    def default_model(self) -> str:
        """The model of requests that name none."""
        if self._default:
            return self._default
        return next((name for name in self.names() if any(v.ready for v in self.models[name].values())), "")

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
        """
        name = model or self.default_model
        if not name:
            raise NotReadyError("no model is ready")
        versions = self.versions(name)
        if version and version not in versions:
            known = ", ".join(str(number) for number in versions)
            raise NotFoundError(f"model '{name}' has no version {version}; there are: {known}")
        wanted = {version: versions[version]} if version else versions
        for entry in wanted.values():
            if entry.loaded is not None:
                return entry.loaded
        number, newest = next(iter(wanted.items()))
        reason = f": {newest.reason}" if newest.reason else ""
        raise NotReadyError(f"model '{name}' version {number} is not ready ({newest.state}){reason}")

    def lease(self, model: str, version: int = 0, variant: str = "") -> Lease:
        """Hold what a request names, until it ends.

        Raises:
            NotFoundError: no such model, version or variant.
            NotReadyError: it exists but cannot answer now.
        """
        return self.find(model, version).lease(variant)
