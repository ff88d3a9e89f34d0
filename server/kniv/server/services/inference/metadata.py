"""ServerMetadata, ModelMetadata and ModelConfig: what clients ask before they send tensors."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from kniv.server.models.catalogue import Catalogue
from kniv.server.services.inference.outputs import outputs_of
from kniv.server.services.inference.parameters import named, version_of

NAME = "kniv-serve"
EXTENSIONS = (
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "logging",
    "schedule_policy",
)


def server_metadata() -> pb.ServerMetadataResponse:
    """Name, version and the extensions of the protocol that are served."""
    try:
        installed = version(NAME)
    except PackageNotFoundError:  # run from a source tree
        installed = "0"
    return pb.ServerMetadataResponse(name=NAME, version=installed, extensions=EXTENSIONS)


def model_metadata(request: pb.ModelMetadataRequest, catalogue: Catalogue) -> pb.ModelMetadataResponse:
    """Tensors of a version, with the batch dimension; and the versions that are ready, or the one asked for.

    Raises:
        InvalidRequestError: no model is named, or the version is no number.
        NotFoundError, NotReadyError: the model or version cannot be had.
    """
    name, number = named(request.name, "name"), version_of(request.version, "version")
    loaded = catalogue.find(name, number)
    config = loaded.opened.message
    ready = [n for n, entry in catalogue.versions(name).items() if entry.ready and number in (0, n)]
    known = outputs_of(config)
    return pb.ModelMetadataResponse(
        name=name,
        versions=[str(n) for n in sorted(ready)],
        platform=config.platform,
        inputs=[_tensor(one) for one in config.input],
        outputs=[_tensor(one) for one in config.output if one.name in known],
    )


def model_config(request: pb.ModelConfigRequest, catalogue: Catalogue) -> pb.ModelConfigResponse:
    """The complete configuration of a version.

    Raises:
        InvalidRequestError: no model is named, or the version is no number.
        NotFoundError, NotReadyError: the model or version cannot be had.
    """
    loaded = catalogue.find(named(request.name, "name"), version_of(request.version, "version"))
    return pb.ModelConfigResponse(config=loaded.opened.message)


def _tensor(tensor: Any) -> pb.ModelMetadataResponse.TensorMetadata:
    datatype = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=datatype, shape=[-1, *tensor.dims])
