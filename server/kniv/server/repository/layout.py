"""The folders of a model repository, laid out as Triton's.

    <repository>/<model>/<version>/cascade.onnx | cascade-int8.onnx | cascade-fp16.onnx
                                   labels.json  metadata.json  tokenizer.json

A version is a folder whose name is a positive number without leading zeros; anything else is ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kniv.server.errors import RepositoryError

GRAPHS = {"int8": "cascade-int8.onnx", "fp32": "cascade.onnx", "fp16": "cascade-fp16.onnx"}
_VERSION = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """One version of a model on disk.

    Attributes:
        graphs: path of each variant's graph, preferred variant first.
    """

    model: str
    version: int
    folder: Path
    graphs: dict[str, Path]

    @property
    def labels(self) -> Path:
        """Label lists."""
        return self.folder / "labels.json"

    @property
    def metadata(self) -> Path:
        """Facts about the model."""
        return self.folder / "metadata.json"

    @property
    def tokenizer(self) -> Path:
        """Tokenizer in the format of the ``tokenizers`` library."""
        return self.folder / "tokenizer.json"


def scan(root: Path) -> list[VersionFiles]:
    """Every version of every model below ``root``, models by name and versions newest first.

    Raises:
        RepositoryError: ``root`` is no folder, or holds no model version.
    """
    if not root.is_dir():
        raise RepositoryError(root, "no such model repository; name a folder with --model-repository")
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        versions = [path for path in folder.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
        for version in sorted(versions, key=lambda path: -int(path.name)):
            graphs = {variant: version / name for variant, name in GRAPHS.items() if (version / name).is_file()}
            found.append(VersionFiles(folder.name, int(version.name), version, graphs))
    if not found:
        raise RepositoryError(root, "holds no model: expected <model>/<version>/cascade-int8.onnx or cascade.onnx")
    return found
