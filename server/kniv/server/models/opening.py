"""Opening one version of a model: read, checked, its sessions made and warmed. Blocking; needs no event loop."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os.path import relpath

from tritonclient.grpc import model_config_pb2

from kniv.server import memory
from kniv.server.errors import RepositoryError
from kniv.server.pipeline.encode import Encoder
from kniv.server.repository.config import ModelConfig, Placement
from kniv.server.repository.derive import check_signature, complete
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import VersionFiles
from kniv.server.repository.manifest import Snapshot, verify
from kniv.server.repository.metadata import Metadata
from kniv.server.runtime.providers import Device, DeviceError, SessionSettings
from kniv.server.runtime.session import Session
from kniv.server.runtime.warmup import fill, warm
from kniv.server.scheduling.policy import BatchLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedVariant:
    """A variant with its sessions.

    Attributes:
        sessions: by device.
        instances: for each device the runs that go side by side there; 0 for the server's choice.
    """

    sessions: dict[str, Session] = field(default_factory=dict)
    instances: dict[str, int] = field(default_factory=dict)

    def add(self, session: Session, count: int) -> None:
        """Serve on a further device, or with further instances on the same."""
        device = str(session.device)
        self.sessions.setdefault(device, session)
        self.instances[device] = self.instances.get(device, 0) + count


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
    digests = verify(files.folder)
    labels, limits = Labels.load(files.labels), Metadata.load(files.metadata)
    variants: dict[str, OpenedVariant] = {}
    with ThreadPoolExecutor(1) as beside:  # a tokenizer takes half as long to read as a graph
        reading = beside.submit(Encoder, files.tokenizer, limits)
        for placement in config.placements:
            for name, session in _place(files, config, placement, threads, digests):
                session.check(labels, reading.result().vocabulary, limits.max_subwords)
                check_signature(config, session.inputs, session.outputs)
                warm(session, config.warmup, files.folder.parent)
                variants.setdefault(name, OpenedVariant()).add(session, placement.count)
        encoder = reading.result()
    if Snapshot.of(files.folder) != snapshot:
        raise RepositoryError(files.folder, "changed while it was read; load it again once it is whole")
    first = next(iter(next(iter(variants.values())).sessions.values()))
    message = complete(config, first.inputs, first.outputs)
    return OpenedVersion(files, snapshot, config, message, labels, limits, encoder, variants)


def settle(opened: OpenedVersion, slots: int, limits: BatchLimits) -> None:
    """Give a version the memory that it will come to need, and the system what loading needed beside. Blocking.

    Args:
        opened: the version.
        slots: runs side by side on a device.
        limits: size of a batch.
    """
    rows = min(limits.rows, opened.config.max_batch_size)
    for variant in opened.variants.values():
        for device, session in variant.sessions.items():
            at_once = min(variant.instances[device] or slots, slots)
            fill(session, at_once, rows, limits.tokens, opened.limits.max_subwords)
    memory.give_back()


def _place(
    files: VersionFiles, config: ModelConfig, placement: Placement, threads: int, digests: Mapping[str, str]
) -> Iterator[tuple[str, Session]]:
    """The sessions of one instance group, the default variant's first."""
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
        for name, path in config.graphs(files, kind).items():
            digest = digests.get(relpath(path, files.folder), "")
            for device in devices:
                yield name, Session(path, device, settings, digest)
    except DeviceError as error:
        if not options.cpu_fallback:
            raise
        log.warning("model %s version %d falls back to CPU: %s", files.model, files.version, error)
        yield from _place(files, config, Placement("cpu", (), placement.count), threads, digests)
