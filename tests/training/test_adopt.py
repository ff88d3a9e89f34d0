from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kniv.server.errors import RepositoryError
from kniv.server.repository.published import family_labels
from kniv.training import adopt
from kniv.training.adopt import adopt_published, adopt_run, canonical, infer_shape, read_state
from kniv.training.cascade import Outputs
from kniv.training.checkpoint import save_model
from kniv.training.export import INPUTS
from kniv.training.predict import GraphPredictor

from .checkpoints import SHAPE, published_model, published_state
from .conftest import LABELS, tiny_cascade, vocabulary

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return published_state()


def renamed(state: State) -> State:
    """The state dict under the encoder's and the predicate embedding's other names."""
    out = {}
    for key, value in state.items():
        theirs = "deberta." + key.removeprefix("encoder.") if key.startswith("encoder.") else key
        out[theirs.replace("predicate.", "pred_embedding.")] = value
    return out


def test_a_published_checkpoint_gives_its_graphs(tmp_path: Path, state: State) -> None:
    config = {"model_type": "deberta-v2", "hidden_size": 64, "num_attention_heads": 1, "pos_att_type": "p2c|c2p"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save({key: value.half() for key, value in renamed(state).items()}, tmp_path / "model.pt")
    vocabulary().tokenizer().save(str(tmp_path / "tokenizer.json"))
    adopt_published(tmp_path, tmp_path, family_labels())
    model = published_model()
    model.load_state_dict({key: value.half().float() for key, value in state.items()})
    ids = torch.tensor([[1, 3299, 9167, 3679, 2013, 267, 9371, 260, 2]])
    feed = dict(zip(INPUTS, (ids, torch.ones_like(ids), torch.tensor([3])), strict=True))
    with torch.no_grad():
        expected = model(*feed.values())
    arrays = {name: value.numpy() for name, value in feed.items()}
    for graph, tolerance in (("cascade.onnx", 1e-4), ("cascade-int8.onnx", 0.5)):
        answers = GraphPredictor(tmp_path / graph)(arrays["input_ids"], arrays["predicate_idx"], Outputs._fields)
        for name, got in answers.items():
            np.testing.assert_allclose(got, getattr(expected, name).numpy(), atol=tolerance, err_msg=name)


@pytest.mark.parametrize("alias", [False, True])
def test_names_and_shape_are_those_of_the_family(state: State, alias: bool) -> None:
    named = canonical(renamed(state) if alias else state, Path("model.pt"))
    assert named.keys() == state.keys()
    assert infer_shape(named, Path("model.pt")) == SHAPE


def without(key: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def changed(key: str, value: Tensor) -> Callable[[State], State]:
    return lambda state: state | {key: value}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (changed("optimizer.step", torch.zeros(1)), "no cascade has: optimizer.step"),
        (without("pos.output.weight"), "lacks pos.output.weight"),
        (changed("pos.output.weight", torch.zeros(18, 64)), "labels ask for"),
        (changed("cls.mlp.0.weight", torch.full((64,), torch.nan)), "not finite in cls.mlp.0.weight"),
        (changed("deberta.embeddings.LayerNorm.weight", torch.ones(64)), "twice, under two prefixes"),
        (without("encoder.encoder.rel_embeddings.weight"), "no kniv cascade over DeBERTa-v3"),
        (changed("encoder.encoder.rel_embeddings.weight", torch.zeros(64, 64)), "64 relative positions"),
        (changed("predicate.weight", torch.zeros(1).expand(1 << 40)), "claim more data"),
        (
            lambda state: state | {f"encoder.encoder.layer.{n}.x": torch.zeros(1) for n in range(50)},
            "50 encoder layers",
        ),
        (lambda _state: {"a": torch.zeros(1)}, "has a"),
        (lambda state: {"model": state}, "tensors alone"),
        (lambda state: list(state.values()), "flat state dict"),
        (lambda _state: {}, "no kniv cascade"),
    ],
)
def test_what_is_no_cascade_is_told(tmp_path: Path, state: State, change: Callable[[State], object], told: str) -> None:
    torch.save(change(state), tmp_path / "model.pt")
    with pytest.raises(RepositoryError, match=told):
        adopt_published(tmp_path, tmp_path, family_labels())
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": 768},
        {"num_attention_heads": 2},
        {"position_buckets": 128},
        {"share_att_key": False},
        {"pos_att_type": ["c2p"]},
        {"model_type": "bert"},
    ],
)
def test_a_configuration_that_is_not_the_weights_is_named(
    tmp_path: Path, state: State, config: dict[str, object]
) -> None:
    torch.save(state, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RepositoryError, match=f"config.json: '{next(iter(config))}' is"):
        adopt_published(tmp_path, tmp_path, family_labels())


def test_another_transformers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "version", lambda _name: "5.7.0")
    with pytest.raises(RepositoryError, match=r"transformers==5\.6\.2, here is 5\.7\.0"):
        adopt_published(tmp_path, tmp_path, family_labels())


def test_a_compressed_or_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    assert read_state(path)["a"].shape == (1000,)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RepositoryError, match="damaged"):
        read_state(path)
    path.write_bytes(whole)
    squeezed = tmp_path / "squeezed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    with pytest.raises(RepositoryError, match="compressed"):
        read_state(squeezed)


class Malicious:
    """Unpickled, it leaves a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.sentinel),)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"a": bad}, lambda bad: {"a": [torch.zeros(1), bad]}])
def test_no_object_of_a_pickle_comes_alive(tmp_path: Path, wrap: Callable[[object], object], legacy: bool) -> None:
    path, sentinel = tmp_path / "model.pt", tmp_path / "executed"
    torch.save(wrap(Malicious(sentinel)), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(RepositoryError, match=r"refused|no file of torch\.save"):
        read_state(path)
    assert not sentinel.exists()
    torch.load(path, weights_only=False)
    assert sentinel.exists(), "the file would not have shown anything"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A checkpoint of ours."""
    folder = tmp_path / "run"
    save_model(folder, tiny_cascade(), LABELS, vocabulary().tokenizer())
    return folder


def test_a_run_of_ours_becomes_a_version(tmp_path: Path, run: Path) -> None:
    adopt_run(run, tmp_path / "1")
    assert {path.name for path in (tmp_path / "1").iterdir()} == {
        "cascade.onnx", "cascade-int8.onnx", "tokenizer.json", "labels.json", "metadata.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("encoder.json", {"hidden_size": 1 << 15}, "'hidden_size' is 32768"),
        ("encoder.json", {"vocab_size": 1 << 40}, "'vocab_size' is larger"),
        ("encoder.json", {"num_hidden_layers": 3}, "'num_hidden_layers' is 3"),
        ("encoder.json", {"model_type": "llama"}, "'model_type' must be"),
        ("cascade.json", {"unheard_of": 1}, "does not fit"),
        ("cascade.json", {"pos": 9}, "does not fit"),
        ("labels.json", {"pos": []}, "'pos' must be"),
    ],
)
def test_a_run_that_is_not_what_it_says_is_told(
    tmp_path: Path, run: Path, file: str, change: dict[str, object], told: str
) -> None:
    path = run / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RepositoryError, match=told):
        adopt_run(run, tmp_path / "1")
    assert not list(tmp_path.glob("1/*.onnx"))
    shutil.rmtree(run)
