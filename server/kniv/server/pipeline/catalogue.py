"""The models that the server can annotate with."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kniv.server.errors import NotFoundError, NotReadyError, RepositoryError, shown
from kniv.server.pipeline.annotate import Annotator
from kniv.server.pipeline.encode import Encoder
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import VersionFiles, scan
from kniv.server.repository.metadata import Metadata
from kniv.server.runtime.session import Device, Session
from kniv.server.scheduling.batcher import Batcher
from kniv.server.scheduling.forming import BatchLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How models are run.

    Attributes:
        device: where.
        parallel: runs side by side a variant.
        threads: threads inside one run.
        limits: size of a batch.
    """

    device: Device
    parallel: int
    threads: int
    limits: BatchLimits


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model: its annotators, or the reason why there are none."""

    model: str
    version: int
    labels: Labels | None
    limits: Metadata | None
    annotators: dict[str, Annotator]
    default_variant: str
    reason: str

    @property
    def ready(self) -> bool:
        """Whether it can answer."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Selection:
    """What a request runs on."""

    model: str
    version: int
    variant: str
    annotator: Annotator
    limits: Metadata


class Catalogue:
    """Models by name, versions newest first.

    Args:
        versions: all versions of all models, in that order.
        default_model: the model of requests that name none.
    """

    def __init__(self, versions: list[ModelVersion], default_model: str) -> None:
        self._models: dict[str, list[ModelVersion]] = {}
        for version in versions:
            self._models.setdefault(version.model, []).append(version)
        self.default_model = default_model

    @classmethod
    def load(cls, root: Path, default_model: str, options: RunOptions, executor: ThreadPoolExecutor) -> Catalogue:
        """Load every version below ``root``. A broken one is kept with its reason and stops nothing.

        Raises:
            RepositoryError: the repository is missing or empty, or no version could be loaded.
        """
        versions = [_load(files, options, executor) for files in scan(root)]
        if not any(version.ready for version in versions):
            reasons = "; ".join(version.reason for version in versions)
            raise RepositoryError(root, f"no model could be loaded: {reasons}")
        ready = [version.model for version in versions if version.ready]
        if default_model not in {version.model for version in versions}:
            if default_model:
                raise RepositoryError(root, f"holds no model '{default_model}', only {', '.join(sorted(set(ready)))}")
            default_model = ready[0]
        return cls(versions, default_model)

    def names(self) -> list[str]:
        """Model names, sorted."""
        return sorted(self._models)

    def versions(self, model: str) -> list[ModelVersion]:
        """Versions of a model, newest first.

        Raises:
            NotFoundError: there is no such model.
        """
        name = model or self.default_model
        if name not in self._models:
            raise NotFoundError(f"no model {shown(name)} here; there are: {', '.join(self.names())}")
        return self._models[name]

    def select(self, model: str, version: int, variant: str) -> Selection:
        """Resolve what a request names: empty for the default model, 0 for the newest ready version.

        Raises:
            NotFoundError: no such model, version or variant.
            NotReadyError: it exists but could not be loaded.
        """
        versions = self.versions(model)
        chosen = [v for v in versions if v.version == version] if version else [v for v in versions if v.ready]
        if not chosen:
            if version:
                known = ", ".join(str(v.version) for v in versions)
                raise NotFoundError(f"model '{versions[0].model}' has no version {version}; there are: {known}")
            chosen = versions
        found = chosen[0]
        if not found.ready or found.limits is None:
            raise NotReadyError(f"model '{found.model}' version {found.version} is not ready: {found.reason}")
        name = variant or found.default_variant
        if name not in found.annotators:
            known = ", ".join(found.annotators)
            raise NotFoundError(
                f"model '{found.model}' version {found.version} has no variant {shown(name)}; there are: {known}"
            )
        return Selection(found.model, found.version, name, found.annotators[name], found.limits)


def _load(files: VersionFiles, options: RunOptions, executor: ThreadPoolExecutor) -> ModelVersion:
    try:
        if not files.graphs:
            raise RepositoryError(files.folder, "holds no graph: expected cascade-int8.onnx or cascade.onnx")
        labels, limits = Labels.load(files.labels), Metadata.load(files.metadata)
        encoder = Encoder(files.tokenizer, limits)
        annotators = {}
        for variant, path in files.graphs.items():
            session = Session(path, labels, options.device, options.threads, limits.max_subwords)
            batcher = Batcher(session, executor, options.parallel, options.limits)
            annotators[variant] = Annotator(labels, encoder, batcher)
    except RepositoryError as error:
        log.error("model %s version %d cannot be loaded: %s", files.model, files.version, error)
        return ModelVersion(files.model, files.version, None, None, {}, "", str(error))
    log.info("model %s version %d is ready: %s", files.model, files.version, ", ".join(annotators))
    return ModelVersion(files.model, files.version, labels, limits, annotators, next(iter(annotators)), "")
