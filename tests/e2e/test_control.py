"""Control modes of the running server, as an operator and as a careless one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import grpc
import pytest
from tests.e2e.conftest import Server, StartServer
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

GRAPHS = ("cascade.onnx", "cascade-int8.onnx")


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    """A repository of a test's own with the tiny model."""
    return Path(shutil.copytree(tiny_repository, tmp_path / "models"))


class Operator:
    """Calls of an administrator and of a user."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.admin = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._annotation = stubs.AnnotationServiceStub(channel)

    def index(self) -> dict[tuple[str, str], tuple[str, str]]:
        """State and reason of each version."""
        models = self.admin.RepositoryIndex(pb.RepositoryIndexRequest()).models
        return {(model.name, model.version): (model.state, model.reason) for model in models}

    def until(self, holds: Callable[[dict[tuple[str, str], tuple[str, str]]], bool]) -> None:
        """Ask for the index, which takes the server a moment, until it is as it should be."""
        deadline, index = monotonic() + 60, self.index()
        while not holds(index):
            assert monotonic() < deadline, index
            index = self.index()

    def version(self) -> int:
        """The version that answers."""
        request = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="Who is it?")])
        return int(self._annotation.AnnotateText(request).model.version)


def load(model: str) -> pb.RepositoryModelLoadRequest:
    return pb.RepositoryModelLoadRequest(model_name=model)


def unload(model: str) -> pb.RepositoryModelUnloadRequest:
    return pb.RepositoryModelUnloadRequest(model_name=model)


def test_polling_takes_a_version_that_is_copied_in_halves_when_it_is_whole(
    repository: Path, start_server: StartServer
) -> None:
    first, second = repository / "tiny" / "1", repository / "tiny" / "2"
    server = start_server(
        "--model-repository", str(repository), "--model-control-mode", "poll", "--repository-poll-seconds", "0.05"
    )
    with grpc.insecure_channel(server.target) as channel:
        operator = Operator(channel)
        second.mkdir()
        for name in GRAPHS:
            content = (first / name).read_bytes()
            (second / name).write_bytes(content[: len(content) // 2])
        operator.until(lambda index: index.get(("tiny", "2"), ("", ""))[1] != "")
        assert operator.version() == 1
        assert operator.index()["tiny", "1"][0] == "READY"
        shutil.copytree(first, second, dirs_exist_ok=True)
        operator.until(lambda index: index["tiny", "2"] == ("READY", ""))
        assert operator.version() == 2
        operator.until(lambda index: index["tiny", "1"][0] == "UNAVAILABLE")
        shutil.rmtree(second)
        operator.until(lambda index: index["tiny", "1"][0] == "READY")
        assert operator.version() == 1
        with pytest.raises(grpc.RpcError, match="--model-control-mode"):
            operator.admin.RepositoryModelLoad(load("tiny"))


def test_an_explicit_server_starts_empty_and_does_as_it_is_told(repository: Path, start_server: StartServer) -> None:
    server = start_server("--model-repository", str(repository), "--model-control-mode", "explicit")
    with grpc.insecure_channel(server.target) as channel:
        operator = Operator(channel)
        assert operator.index() == {("tiny", "1"): ("UNAVAILABLE", "")}
        with pytest.raises(grpc.RpcError, match="no model is ready"):
            operator.version()
        operator.admin.RepositoryModelLoad(load("tiny"))
        assert operator.version() == 1
        operator.admin.RepositoryModelUnload(unload("tiny"))
        with pytest.raises(grpc.RpcError, match="no model is ready"):
            operator.version()
        operator.admin.RepositoryModelLoad(load("tiny"))
        assert operator.version() == 1


CONFIGS = {
    "another name": ('name: "other"', "name"),
    "an unknown field": ("no_such_field: 1", "no_such_field"),
    "an unsupported field": ("ensemble_scheduling {}", "ensemble_scheduling"),
    "another output": ('output { name: "pos_logits" data_type: TYPE_INT32 dims: [-1, 17] }', "pos_logits"),
    "a version that is not there": ("version_policy { specific { versions: 7 } }", "version_policy"),
    "a warm-up with an unknown subword": (
        """model_warmup {
          name: "w" batch_size: 1
          inputs { key: "input_ids" value { data_type: TYPE_INT64 dims: [4] input_data_file: "ids" } }
          inputs { key: "attention_mask" value { data_type: TYPE_INT64 dims: [4] zero_data: true } }
          inputs { key: "predicate_idx" value { data_type: TYPE_INT64 dims: [1] zero_data: true } }
        }""",
        "warm",
    ),
    "a graphics card": ("instance_group { kind: KIND_GPU }", "CUDA"),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_at_fault_fails_the_load_with_its_field(
    repository: Path, start_server: StartServer, config: str
) -> None:
    text, named = CONFIGS[config]
    (repository / "tiny" / "warmup").mkdir()
    (repository / "tiny" / "warmup" / "ids").write_bytes(b"\x7f" * 32)
    server = start_server(
        "--model-repository", str(repository), "--model-control-mode", "explicit", "--load-model", "tiny"
    )
    with grpc.insecure_channel(server.target) as channel:
        operator = Operator(channel)
        (repository / "tiny" / "config.pbtxt").write_text(text)
        with pytest.raises(grpc.RpcError, match=named) as failure:
            operator.admin.RepositoryModelLoad(load("tiny"))
        assert failure.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert operator.version() == 1
        assert operator.index()["tiny", "1"][0] == "READY"
        assert named in operator.index()["tiny", "1"][1]


def test_folders_that_are_no_versions_and_links_in_circles_harm_nobody(
    repository: Path, start_server: StartServer
) -> None:
    for name in ("0", "007", "abc", "-1"):
        shutil.copytree(repository / "tiny" / "1", repository / "tiny" / name)
    (repository / "tiny" / "1" / "self").symlink_to(repository / "tiny")
    (repository / "round").symlink_to(repository)
    (repository / "loop").symlink_to(repository / "loop")
    for folder in (repository / "tiny" / "1", repository / "tiny", repository):
        folder.chmod(0o555)
    try:
        server = start_server("--model-repository", str(repository))
        with grpc.insecure_channel(server.target) as channel:
            operator = Operator(channel)
            assert operator.version() == 1
            assert [key for key in operator.index() if key[0] == "tiny"] == [("tiny", "1")]
    finally:
        for folder in (repository, repository / "tiny", repository / "tiny" / "1"):
            folder.chmod(0o755)


def test_administrators_have_a_listener_of_their_own(
    repository: Path, tmp_path: Path, start_server: StartServer
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    flags = ("--model-repository", str(repository), "--model-control-mode", "explicit")
    server = start_server(*flags, "--admin-port", "0", "--admin-token-file", str(token))
    with grpc.insecure_channel(server.target) as channel, grpc.insecure_channel(admin_of(server)) as private:
        with pytest.raises(grpc.RpcError, match="--admin-port"):
            Operator(channel).admin.RepositoryModelLoad(load("tiny"))
        with pytest.raises(grpc.RpcError, match="Bearer"):
            Operator(private).admin.RepositoryModelLoad(load("tiny"))
        Operator(private).admin.RepositoryModelLoad(load("tiny"), metadata=[("authorization", "Bearer s3cret")])
        assert Operator(channel).version() == 1
    assert "s3cret" not in server.log.read_text()


def admin_of(server: Server) -> str:
    """Where the server's log says that administrators' calls are served."""
    (line,) = [line for line in server.log.read_text().splitlines() if "administrators' calls" in line]
    return line.rsplit(" ", 1)[1]
