"""A version folder made of a checkpoint that came from outside: a published ``model.pt``, or a run of ours.

Nothing in such a file is executed: tensors are read by PyTorch's restricted unpickler, and the architecture is
built here from their shapes and then compared with them key by key.
"""

from __future__ import annotations

import json
import re
import zipfile
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from kniv.server.errors import RepositoryError
from kniv.server.repository.labels import Labels
from kniv.training.cascade import Cascade, CascadeConfig
from kniv.training.export import export_graph
from kniv.training.package import FP32, INT8, package, record_checksum
from kniv.training.quantise import quantise
from kniv.training.reference import Shape, reference

TRANSFORMERS = "5.6.2"
HEAD_SIZE = 64  # of every DeBERTa-v3: xsmall 384 in 6 heads, small and base 768 in 12, large 1024 in 16

_TABLE, _POSITIONS = "encoder.embeddings.word_embeddings.weight", "encoder.encoder.rel_embeddings.weight"
_INNER = "encoder.encoder.layer.0.intermediate.dense.weight"
_LAYER = re.compile(r"encoder\.encoder\.layer\.(\d+)\.")
_RELATIVE_POSITIONS = 512  # two directions of 256 buckets
# Prefixes that may stand for ours: the encoder under transformers' own name for the family, and the predicate
# embedding as the published model card calls it.
_ALIASES = {"deberta.": "encoder.", "pred_embedding.": "predicate."}
# What transformers' configuration of a published encoder must say, where one lies beside the weights.
_FIXED = {
    "model_type": "deberta-v2",
    "position_buckets": 256,
    "relative_attention": True,
    "share_att_key": True,
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
    "hidden_act": "gelu",
    "type_vocab_size": 0,
}
_FAMILIES = ("bert", "deberta-v2")  # encoders that a cascade of ours can have
_MOST_LAYERS = 48
_LARGEST = 1 << 20  # of any dimension in a configuration
_SHOWN = 5


def adopt_published(checkpoint: Path, target: Path, labels: Labels) -> None:
    """Write cascade.onnx and cascade-int8.onnx of a published checkpoint.

    The LSTMs are given each row's length, which changes no weight: padding then cannot reach an answer.

    Args:
        checkpoint: folder with model.pt and, perhaps, the encoder's config.json.
        target: version folder that receives the graphs; the model's tokenizer.json lies there.
        labels: the model's label lists; their lengths must be those of the heads.

    Raises:
        RepositoryError: the file holds anything but tensors, the tensors are not those of a cascade of this
            family with these labels, or another transformers is installed than the models need.
    """
    require_transformers(checkpoint)
    path = checkpoint / "model.pt"
    state = canonical(read_state(path), path)
    shape = infer_shape(state, path)
    if (config := checkpoint / "config.json").exists():
        _compare_config(config, shape)
    model = Cascade(reference(shape).encoder, CascadeConfig.of(labels))
    _compare_keys(state, model.state_dict(), path)
    model.load_state_dict(state)
    export_graph(model, target / FP32)
    quantise(target / FP32, target / INT8, "fixed")


def adopt_run(checkpoint: Path, target: Path) -> None:
    """Write a version folder, both graphs included, of a checkpoint that ``kniv-train`` made.

    Raises:
        RepositoryError: as of :func:`adopt_published`, or the configuration does not describe the weights.
    """
    require_transformers(checkpoint)
    state = read_state(checkpoint / "model.pt")
    _check_run(checkpoint / "encoder.json", state)
    try:
        package(checkpoint, target)
    except RepositoryError:
        raise
    except Exception as error:  # the configuration is theirs, and tokenizers raises bare Exception
        problem = f"does not fit the configuration beside it: {str(error).strip()[:400]}"
        raise RepositoryError(checkpoint / "model.pt", problem) from error
    quantise(target / FP32, target / INT8, "fixed")
    record_checksum(target, INT8)


def require_transformers(place: Path) -> None:
    """Check that the transformers release is the one that the published encoders need.

    Raises:
        RepositoryError: it is another; what it would compute is wrong without any error.
    """
    if (found := version("transformers")) != TRANSFORMERS:
        problem = f"needs transformers=={TRANSFORMERS}, here is {found}, whose answers would be wrong"
        raise RepositoryError(place, f"{problem}: pip install 'kniv-serve[training]'")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``torch.save`` file, as float32 where they are floating.

    Raises:
        RepositoryError: it is no such file, holds anything but tensors by name, or values that are not finite.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise RepositoryError(path, "holds compressed records, which torch.save never writes; refused")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except UnpicklingError as error:
        raise RepositoryError(path, "holds Python objects beside tensors and is refused; save a state dict") from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RepositoryError(path, f"is no file of torch.save, or a damaged one: {str(error)[:200]}") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise RepositoryError(path, "must hold a flat state dict: names and tensors")
    if strange := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise RepositoryError(path, f"must hold tensors alone, but {_listed(strange)} are none")
    if sum(value.numel() * value.element_size() for value in state.values()) > path.stat().st_size:
        raise RepositoryError(path, "has tensors that claim more data than the file holds")
    if broken := [key for key, value in state.items() if not bool(torch.isfinite(value).all())]:
        raise RepositoryError(path, f"has values that are not finite in {_listed(broken)}")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def canonical(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A published state dict under the names of :class:`~kniv.training.cascade.Cascade`.

    Those names are taken as they are; ``deberta.`` stands for ``encoder.``, ``pred_embedding.`` for ``predicate.``.

    Raises:
        RepositoryError: two tensors have one name.
    """
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        alias = next((prefix for prefix in _ALIASES if key.startswith(prefix)), "")
        name = _ALIASES[alias] + key.removeprefix(alias) if alias else key
        if name in named:
            raise RepositoryError(path, f"has '{name}' twice, under two prefixes")
        named[name] = value
    return named


def infer_shape(state: dict[str, Tensor], path: Path) -> Shape:
    """The encoder's dimensions, as far as its tensors tell; attention heads are 64 wide in the whole family.

    Raises:
        RepositoryError: a tensor that tells them is missing, or they are not those of a DeBERTa-v3.
    """
    needed = (_TABLE, _POSITIONS, _INNER)
    if missing := [name for name in needed if name not in state or state[name].ndim != 2]:
        found = _listed(sorted(state))
        raise RepositoryError(path, f"is no kniv cascade over DeBERTa-v3: lacks {_listed(missing)}; has {found}")
    vocabulary, hidden = state[_TABLE].shape
    if hidden % HEAD_SIZE:
        raise RepositoryError(path, f"has {hidden} dimensions; DeBERTa-v3 has a multiple of {HEAD_SIZE}")
    if state[_POSITIONS].shape[0] != _RELATIVE_POSITIONS:
        found = state[_POSITIONS].shape[0]
        raise RepositoryError(path, f"has {found} relative positions; DeBERTa-v3 has {_RELATIVE_POSITIONS}")
    if not 0 < (layers := _layers(state)) <= _MOST_LAYERS:
        raise RepositoryError(path, f"has {layers} encoder layers; a cascade has 1 to {_MOST_LAYERS}")
    return Shape(hidden, layers, hidden // HEAD_SIZE, state[_INNER].shape[0], vocabulary)


def _layers(state: dict[str, Tensor]) -> int:
    return len({match[1] for key in state if (match := _LAYER.match(key))})


def _compare_config(path: Path, shape: Shape) -> None:
    """Hold transformers' configuration against what the weights say."""
    given = _object(path)
    wanted: dict[str, object] = _FIXED | {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocabulary,
    }
    for name, value in wanted.items():
        if name in given and given[name] != value:
            raise RepositoryError(path, f"'{name}' is {given[name]!r:.60} where the weights ask for {value!r}")
    kinds = given.get("pos_att_type", "p2c|c2p")
    names = kinds.split("|") if isinstance(kinds, str) else kinds
    if not isinstance(names, list) or sorted(map(str, names)) != ["c2p", "p2c"]:
        raise RepositoryError(path, f"'pos_att_type' is {kinds!r:.60}; the family has p2c|c2p")


def _compare_keys(state: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    if unknown := sorted(set(state) - set(expected)):
        raise RepositoryError(path, f"has tensors that no cascade has: {_listed(unknown)}")
    if missing := sorted(set(expected) - set(state)):
        raise RepositoryError(path, f"lacks {_listed(missing)}")
    for name, value in expected.items():
        if state[name].shape != value.shape:
            problem = (
                f"'{name}' has shape {tuple(state[name].shape)} where shape and labels ask for {tuple(value.shape)}"
            )
            raise RepositoryError(path, problem)


def _check_run(path: Path, state: dict[str, Tensor]) -> None:
    """Check that a run's encoder.json describes its weights, before memory is set aside as it says."""
    given = _object(path)
    if given.get("model_type") not in _FAMILIES:
        raise RepositoryError(path, f"'model_type' must be one of {', '.join(_FAMILIES)}")
    if large := [name for name, value in given.items() if isinstance(value, int) and value > _LARGEST]:
        raise RepositoryError(path, f"'{large[0]}' is larger than {_LARGEST:,}")
    if _INNER not in state or "predicate.weight" not in state:
        raise RepositoryError(path.with_name("model.pt"), f"is no cascade: has {_listed(sorted(state))}")
    inner, hidden = state[_INNER].shape
    wanted = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": _layers(state)}
    for name, value in wanted.items():
        if given.get(name) != value:
            raise RepositoryError(path, f"'{name}' is {given.get(name)!r:.60} where the weights have {value}")


def _object(path: Path) -> dict[str, object]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RepositoryError(path, f"unreadable: {error}") from error
    if not isinstance(given, dict):
        raise RepositoryError(path, "must hold a JSON object")
    return given


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:80] for name in names[:_SHOWN]) + more
