from __future__ import annotations

from typing import Any

import pytest
from tests.server.services.inference.conftest import Serving
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, NotAllowedError, NotFoundError, UnsupportedError
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.control import ModelControl
from kniv.server.models.modes import ControlMode
from kniv.server.services.inference.admin import load, repository_index, unload
from kniv.server.services.inference.health import model_ready, server_ready
from kniv.server.services.inference.metadata import model_config, model_metadata


def load_request(model: str = "tiny", **parameters: Any) -> pb.RepositoryModelLoadRequest:
    values = {name: pb.ModelRepositoryParameter(**value) for name, value in parameters.items()}
    return pb.RepositoryModelLoadRequest(model_name=model, parameters=values)


def unload_request(model: str = "tiny", **parameters: Any) -> pb.RepositoryModelUnloadRequest:
    values = {name: pb.ModelRepositoryParameter(**value) for name, value in parameters.items()}
    return pb.RepositoryModelUnloadRequest(model_name=model, parameters=values)


def test_a_model_is_listed_loaded_described_and_unloaded(serving: Serving[None]) -> None:
    async def main(control: ModelControl) -> None:
        async def listed(ready: bool = False) -> list[tuple[str, str, str, str]]:
            answer = await repository_index(pb.RepositoryIndexRequest(ready=ready), control)
            return [(one.name, one.version, one.state, one.reason) for one in answer.models]

        def ready(**fields: str) -> bool:
            return model_ready(pb.ModelReadyRequest(**fields), control.catalogue).ready

        assert await listed() == [("tiny", "3", "UNAVAILABLE", "")]
        assert await listed(ready=True) == []
        assert not ready(name="tiny")
        await load(load_request(), control)
        assert await listed(ready=True) == [("tiny", "3", "READY", "")]
        assert ready(name="tiny") and ready(name="tiny", version="3")
        assert not ready(name="tiny", version="1") and not ready(name="large")
        config = model_config(pb.ModelConfigRequest(name="tiny"), control.catalogue).config
        assert (config.name, config.max_batch_size) == ("tiny", 4)
        metadata = model_metadata(pb.ModelMetadataRequest(name="tiny"), control.catalogue)
        assert (metadata.versions, metadata.platform) == (["3"], "onnxruntime_onnx")
        tensors = {one.name: (one.datatype, list(one.shape)) for one in (*metadata.inputs, *metadata.outputs)}
        assert tensors["attention_mask"] == ("INT64", [-1, -1])
        assert tensors["predicate_idx"] == ("INT64", [-1])
        assert tensors["pos_logits"] == ("FP32", [-1, -1, 17])
        assert tensors["cls_logits"] == ("FP32", [-1, 8])
        await unload(unload_request(unload_dependents={"bool_param": True}), control)
        ((*named, state, reason),) = await listed()
        assert (named, reason) == (["tiny", "3"], "unloaded")
        assert state in ("UNLOADING", "UNAVAILABLE")

    serving(main)


def test_a_configuration_of_the_callers_holds_until_the_next_load(serving: Serving[None]) -> None:
    async def main(control: ModelControl) -> None:
        def rows() -> int:
            return control.catalogue.find("tiny").opened.config.max_batch_size

        await load(load_request(config={"string_param": '{"maxBatchSize": 2}'}), control)
        assert rows() == 2
        await load(load_request(), control)
        assert rows() == 4

    serving(main)


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (load_request(""), InvalidRequestError, "model_name: empty"),
        (load_request("large"), NotFoundError, "'large'"),
        (load_request("../tiny"), InvalidRequestError, "model_name"),
        (load_request(config={"string_param": "{"}), InvalidRequestError, "'config'"),
        (load_request(config={"string_param": '{"maxBatchSize": -1}'}), InvalidRequestError, "max_batch_size"),
        (load_request(config={"bool_param": True}), InvalidRequestError, "'config'"),
        (load_request(konfig={"string_param": "{}"}), InvalidRequestError, "'konfig'"),
        (load_request(**{"file:1/model.onnx": {"bytes_param": b""}}), UnsupportedError, "'file:1/model.onnx'"),
        (pb.RepositoryModelLoadRequest(repository_name="r", model_name="tiny"), UnsupportedError, "repository_name"),
    ],
)
def test_what_cannot_be_loaded(
    serving: Serving[None], request_: pb.RepositoryModelLoadRequest, error: type[Exception], said: str
) -> None:
    async def main(control: ModelControl) -> None:
        with pytest.raises(error, match=said):
            await load(request_, control)
        assert not server_ready(control.catalogue, ControlMode.NONE, draining=False)

    serving(main)


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (unload_request(""), InvalidRequestError, "model_name: empty"),
        (unload_request("large"), NotFoundError, "'large'"),
        (unload_request(unload_dependents={"string_param": "yes"}), InvalidRequestError, "'unload_dependents'"),
        (unload_request(force={"bool_param": True}), InvalidRequestError, "'force'"),
        (pb.RepositoryModelUnloadRequest(repository_name="r", model_name="tiny"), UnsupportedError, "repository_name"),
    ],
)
def test_what_cannot_be_unloaded(
    serving: Serving[None], request_: pb.RepositoryModelUnloadRequest, error: type[Exception], said: str
) -> None:
    async def main(control: ModelControl) -> None:
        await load(load_request(), control)
        with pytest.raises(error, match=said):
            await unload(request_, control)
        assert server_ready(control.catalogue, ControlMode.NONE, draining=False)

    serving(main)


def test_callers_load_nothing_unless_the_mode_says_so(serving: Serving[None]) -> None:
    async def main(control: ModelControl) -> None:
        control.mode = ControlMode.POLL
        with pytest.raises(NotAllowedError, match="--model-control-mode explicit"):
            await load(load_request(), control)
        with pytest.raises(NotAllowedError, match="--model-control-mode explicit"):
            await unload(unload_request(), control)

    serving(main)


@pytest.mark.parametrize("mode", ControlMode)
def test_a_server_without_models_is_ready_where_callers_load_them(mode: ControlMode) -> None:
    assert server_ready(Catalogue(), mode, draining=False) == (mode is ControlMode.EXPLICIT)
    assert not server_ready(Catalogue(), mode, draining=True)
