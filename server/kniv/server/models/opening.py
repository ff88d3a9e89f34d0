"""Opening one version of a model: read, checked, its sessions made and warmed. Blocking; needs no event loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2

from kniv.server.errors import RepositoryError
from kniv.server.pipeline.encode import Encoder
from kniv.server.repository.config import ModelConfig, Placement
from kniv.server.repository.derive import check_signature, complete
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import VersionFiles
from kniv.server.repository.manifest import Snapshot, verify
from kniv.server.repository.metadata import Metadata
from kniv.server.runtime.providers import Device, SessionSettings
from kniv.server.runtime.session import Session
from kniv.server.runtime.warmup import warm

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedVariant:
    """A variant with its sessions, one a device, and how many runs go side by side on each (0: the server's choice)."""

    sessions: tuple[Session, ...]
    instances: int


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """A version, ready to run.

    Attributes:
        files: where it was read from.
        snapshot: what the files were when they were read.
        config: the model's configuration; ``message`` is it completed from graph and labels.
        variants: by name; the first answers where none is named.
    """

    files: VersionFiles
    snapshot: Snapshot
    config: ModelConfig
    message: model_config_pb2.ModelConfig
    labels: Labels
    limits: Metadata
    encoder: Encoder
    variants: dict[str, OpenedVariant]


def open_version(files: VersionFiles, config: ModelConfig, threads: int) -> OpenedVersion:
    """Read, check and warm a version.

    Args:
        files: its files.
        config: its model's configuration.
        threads: threads inside one run where the configuration names no number.

    Raises:
        RepositoryError: a file is missing, broken or does not fit the others, a device is not there, or a trial
            or warm-up run fails.
    """
    snapshot = Snapshot.of(files.folder)
    verify(files.folder)
    labels, limits = Labels.load(files.labels), Metadata.load(files.metadata)
    encoder = Encoder(files.tokenizer, limits)
    variants: dict[str, OpenedVariant] = {}
    for placement in config.placements:
        for name, opened in _place(files, config, placement, threads).items():
            if name not in variants:
                variants[name] = opened
    for name, variant in variants.items():
        for session in variant.sessions:
            session.check(labels, encoder.vocabulary, limits.max_subwords)
            check_signature(config, session.inputs, session.outputs)
            warm(session, config.warmup, files.folder.parent)
        log.debug("model %s version %d: variant %s is warm", files.model, files.version, name)
    if Snapshot.of(files.folder) != snapshot:
        raise RepositoryError(files.folder, "changed while it was read; load it again once it is whole")
    first = next(iter(variants.values())).sessions[0]
    message = complete(config, first.inputs, first.outputs)
    return OpenedVersion(files, snapshot, config, message, labels, limits, encoder, variants)


def _place(files: VersionFiles, config: ModelConfig, placement: Placement, threads: int) -> dict[str, OpenedVariant]:
    """The variants that one instance group serves."""
    options = config.runtime
    settings = SessionSettings(
        threads=options.threads or threads,
        graph_level=options.graph_level,
        arena=options.arena,
        memory_pattern=options.memory_pattern,
        cuda=options.cuda,
    )
    kind = placement.device
    devices = [Device(kind, index) for index in placement.gpus] or [Device(kind)]
    try:
        return {
            name: OpenedVariant(tuple(Session(path, device, settings) for device in devices), placement.count)
            for name, path in config.graphs(files, kind).items()
        }
    except RepositoryError as error:
        if kind == "cpu" or not options.cpu_fallback:
            raise
        log.warning("model %s version %d falls back to CPU: %s", files.model, files.version, error)
        return _place(files, config, Placement("cpu", (), placement.count), threads)
