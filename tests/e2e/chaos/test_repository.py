"""A repository that is damaged while its model serves: each load fails with the file's name, and nobody notices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import onnx
import pytest
from tests.e2e.chaos.callers import fresh
from tests.e2e.chaos.conftest import seed
from tests.e2e.chaos.faults import Crowd, hurrying, reconnecting
from tests.e2e.conftest import Server, StartServer
from tritonclient.grpc import service_pb2, service_pb2_grpc

Damage = Callable[[Path], str]  # does it to a version's folder, and gives what the error must name


def _truncated(folder: Path) -> str:
    for path in folder.glob("*.onnx"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "cascade"


def _wrong_shape(folder: Path) -> str:
    path = folder / "labels.json"
    labels = json.loads(path.read_text(encoding="utf-8"))
    name = next(name for name, value in labels.items() if isinstance(value, list))
    labels[name] = [*labels[name], "MORE"]
    path.write_text(json.dumps(labels), encoding="utf-8")
    return "labels.json"


def _swapped(folder: Path) -> str:
    """Where the cascade lay, there is a sound graph of another model."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [value], [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    for path in folder.glob("*.onnx"):
        onnx.save(model, path)
    return "cascade"


def _no_tokenizer(folder: Path) -> str:
    (folder / "tokenizer.json").unlink()
    return "tokenizer.json"


def _half_copied(folder: Path) -> str:
    for name in ("tokenizer.json", "labels.json", "metadata.json"):
        (folder / name).unlink()
    for path in folder.glob("*.onnx"):
        path.write_bytes(path.read_bytes()[:1000])
    return "json"


def _bad_config(folder: Path) -> str:
    (folder.parent / "config.pbtxt").write_text("max_batch_size: 8\ninstance_group [ {")
    return "config.pbtxt"


def _failing_warm_up(folder: Path) -> str:
    (folder.parent / "warmup").mkdir()
    (folder.parent / "warmup" / "ids").write_bytes(b"\x7f" * 32)
    zeros = "data_type: TYPE_INT64 dims: [{}] zero_data: true"
    (folder.parent / "config.pbtxt").write_text(
        'model_warmup { name: "w" batch_size: 1'
        ' inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: [4] input_data_file: "ids" } }'
        f' inputs {{ key: "attention_mask" value {{ {zeros.format(4)} }} }}'
        f' inputs {{ key: "predicate_idx" value {{ {zeros.format(1)} }} }} }}'
    )
    return "warm"


DAMAGES: tuple[Damage, ...] = (
    _truncated,
    _wrong_shape,
    _swapped,
    _no_tokenizer,
    _half_copied,
    _bad_config,
    _failing_warm_up,
)


@pytest.fixture
def damaged(tiny_repository: Path, tmp_path: Path, start_server: StartServer) -> tuple[Server, Path]:
    """A server whose one model's folder may be damaged."""
    root = Path(shutil.copytree(tiny_repository, tmp_path / "models"))
    flags = ("--model-repository", str(root), "--model-control-mode", "explicit", "--load-model", "tiny")
    return start_server(*flags), root / "tiny"


def _load(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny"), timeout=120)


def test_damage_under_load(damaged: tuple[Server, Path], tiny_repository: Path) -> None:
    """Every damage in turn, as a new version and to the one that serves; a sound one is taken after each."""
    server, folder = damaged
    before = fresh(server.target)
    with reconnecting(server.target, seed()) as crowd:
        for damage in DAMAGES:
            shutil.rmtree(folder)
            shutil.copytree(tiny_repository / "tiny", folder)
            named = damage(folder / "1")
            with pytest.raises(grpc.RpcError, match=named) as failure:
                _load(server.target)
            assert failure.value.code() == grpc.StatusCode.FAILED_PRECONDITION, damage
            assert fresh(server.target) == before, damage
        shutil.rmtree(folder)
        shutil.copytree(tiny_repository / "tiny", folder)
        _load(server.target)
    _only_good(crowd)
    assert fresh(server.target) == before


def test_reloads_under_a_storm(damaged: tuple[Server, Path]) -> None:
    server, folder = damaged
    before = fresh(server.target)
    with reconnecting(server.target, seed()) as crowd, hurrying(server.target, seed()):
        for _ in range(5):
            (folder / "1" / "metadata.json").touch()
            _load(server.target)
    _only_good(crowd)
    assert fresh(server.target) == before


def _only_good(crowd: Crowd) -> None:
    """Callers who hang up themselves have met no other status than that and success."""
    assert set(crowd.codes) <= {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}, crowd.codes
