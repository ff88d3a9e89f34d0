"""``kniv models``: what the server can run."""

from __future__ import annotations

import argparse

from kniv.client._connection import connect
from kniv.client._model import ModelInfo

_TITLES = ["MODEL", "VERSION", "STATE", "VARIANTS", "TASKS"]


def run(arguments: argparse.Namespace) -> int:
    """List the models; the variant in brackets is the default."""
    with connect(arguments) as client:
        rows = [_TITLES, *(row for model in client.models() for row in _rows(model))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _rows(model: ModelInfo) -> list[list[str]]:
    return [
        [
            model.name,
            str(version.version),
            "ready" if version.ready else f"not ready: {version.reason}",
            " ".join(f"[{name}]" if name == version.default_variant else name for name in version.variants),
            " ".join(version.tasks),
        ]
        for version in model.versions
    ]
