"""Reading a model's ``config.pbtxt``: Triton's ModelConfig, where anything that has no effect here is an error."""

from __future__ import annotations

import stat
from pathlib import Path

from tritonclient.grpc import model_config_pb2

from kniv.server.errors import RepositoryError
from kniv.server.repository.config_read import read_config
from kniv.server.repository.config_text import MOST_BYTES, Source, read_json, read_text
from kniv.server.repository.config_values import (
    Batching,
    Device,
    GraphLevel,
    ModelConfig,
    Placement,
    QueuePolicy,
    RuntimeOptions,
    VersionPolicy,
    WarmupInput,
    WarmupSample,
)
from kniv.server.repository.layout import CONFIG

__all__ = [
    "Batching",
    "Device",
    "GraphLevel",
    "ModelConfig",
    "Placement",
    "QueuePolicy",
    "RuntimeOptions",
    "VersionPolicy",
    "WarmupInput",
    "WarmupSample",
    "config_from_json",
    "load_config",
    "parse_config",
]


def load_config(folder: Path, *, default_device: Device = "cpu") -> ModelConfig:
    """The configuration of the model in ``folder``; the defaults if it has no ``config.pbtxt``.

    Args:
        folder: the model's folder, whose name is the model's.
        default_device: where instances run that leave it open (``KIND_AUTO``).

    Raises:
        RepositoryError: the file cannot be read, or names something unknown, unsupported or wrong.
    """
    path = folder / CONFIG
    try:
        path.lstat()
    except FileNotFoundError:
        return read_config(model_config_pb2.ModelConfig(), folder.name, Source(path), default_device)
    except OSError as error:
        raise RepositoryError(path, f"cannot be read: {error}") from error
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise RepositoryError(path, "is no regular file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise RepositoryError(path, f"is longer than {MOST_BYTES:,} bytes; a configuration is not")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(path, f"cannot be read: {error}") from error
    return parse_config(text, path, folder.name, default_device=default_device)


def parse_config(text: str, path: Path, name: str, *, default_device: Device = "cpu") -> ModelConfig:
    """The configuration that a text in protobuf's text format holds.

    Args:
        text: content of a ``config.pbtxt``.
        path: where it was read from, for error messages.
        name: the model's.
        default_device: where instances run that leave it open.

    Raises:
        RepositoryError: it names something unknown, unsupported or wrong; tells the field and the line.
    """
    message, source = read_text(text, path)
    return read_config(message, name, source, default_device)


def config_from_json(text: str, name: str, *, default_device: Device = "cpu") -> ModelConfig:
    """The configuration that a request to load a model brings along, in protobuf's JSON format.

    Raises:
        RepositoryError: it names something unknown, unsupported or wrong; tells the field.
    """
    message, source = read_json(text, name)
    return read_config(message, name, source, default_device)
