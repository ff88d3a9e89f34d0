"""The published family: what its models are called here and on the hub, and what their files hold."""

from __future__ import annotations

import re
from pathlib import Path

from kniv.server.errors import InvalidRequestError
from kniv.server.repository.labels import Labels
from kniv.server.repository.layout import GRAPHS

FAMILY = {
    f"kniv-{size}": f"dragonscale-ai/kniv-deberta-nlp-base-en-{size}" for size in ("xsmall", "small", "base", "large")
}
# Where a published repository keeps each variant, and the files beside them.
GRAPH_FILES = {variant: f"onnx/{name}" for variant, name in GRAPHS.items()}
TOKENIZER, LABELS, METADATA, CHECKPOINT = "tokenizer.json", "labels.json", "metadata.json", "model.pt"
SHARED = (TOKENIZER, LABELS, METADATA)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def hub_repository(name: str) -> str:
    """The hub's repository of a model: one of the family, or any named as ``organisation/name``.

    Raises:
        InvalidRequestError: it is neither.
    """
    if name in FAMILY:
        return FAMILY[name]
    owner, slash, model = name.partition("/")
    if not (slash and _NAME.fullmatch(owner) and _NAME.fullmatch(model)):
        known = ", ".join(FAMILY)
        raise InvalidRequestError("NAME", f"must be one of {known}, or a hub repository as organisation/name")
    return name


def local_name(repository: str) -> str:
    """The model's folder here: the family's short name, or the name without its owner.

    Raises:
        InvalidRequestError: it is neither a name nor ``organisation/name``.
    """
    owner, _, last = repository.rpartition("/")
    if owner:
        model_name(owner, "NAME")
    short = {hub.rpartition("/")[2]: name for name, hub in FAMILY.items()}
    return model_name(short.get(last, last), "NAME")


def model_name(name: str, option: str) -> str:
    """``name`` itself, if a model's folder may be called so.

    Raises:
        InvalidRequestError: it is empty, too long, or holds anything but letters, digits and ``._-``.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(option, "a model's name is up to 96 letters, digits and '._-', beginning with no dot")
    return name


def family_labels() -> Labels:
    """The label lists that every model of the family was trained with."""
    return Labels.load(Path(__file__).with_name("family_labels.json"))
