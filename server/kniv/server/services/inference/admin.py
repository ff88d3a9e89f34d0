"""The repository's calls: what is there, loading and unloading it."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, RepositoryError, UnsupportedError, shown
from kniv.server.models.control import ModelControl
from kniv.server.repository.config import config_from_json
from kniv.server.services.inference.parameters import named


async def repository_index(request: pb.RepositoryIndexRequest, control: ModelControl) -> pb.RepositoryIndexResponse:
    """Every version on disk or in memory with its state; only those that can answer, if the request says so.

    Raises:
        RepositoryError: the repository cannot be read.
        UnsupportedError: the request names a repository.
    """
    _refuse_repository(request.repository_name)
    response = pb.RepositoryIndexResponse()
    for name, versions in (await control.index()).items():
        for number, entry in versions.items():
            if entry.ready or not request.ready:
                response.models.add(name=name, version=str(number), state=entry.state, reason=entry.reason)
        if not versions and not request.ready:
            response.models.add(name=name, state="UNAVAILABLE", reason="its folder holds no version yet")
    return response


async def load(request: pb.RepositoryModelLoadRequest, control: ModelControl) -> pb.RepositoryModelLoadResponse:
    """Load a model, with a configuration of the caller's if one is given.

    Raises:
        InvalidRequestError: no model is named, a parameter is unknown, or the configuration cannot be had.
        UnsupportedError: the request brings files along, or names a repository.
        NotAllowedError, NotFoundError, RepositoryError: see :meth:`ModelControl.load`.
    """
    _refuse_repository(request.repository_name)
    name = named(request.model_name, "model_name")
    override = None
    for key in sorted(request.parameters):
        field = f"parameters[{shown(key)}]"
        if key.startswith("file:"):
            raise UnsupportedError(f"{field}: models are loaded from the server's repository; put the files there")
        if key != "config":
            raise InvalidRequestError(field, "is unknown; there is: config")
        if request.parameters[key].WhichOneof("parameter_choice") != "string_param":
            raise InvalidRequestError(field, "must be a string_param with a model configuration in JSON")
        override = request.parameters[key].string_param
        try:
            config_from_json(override, name)
        except RepositoryError as error:
            raise InvalidRequestError(field, str(error)) from error
    await control.load(name, override)
    return pb.RepositoryModelLoadResponse()


async def unload(request: pb.RepositoryModelUnloadRequest, control: ModelControl) -> pb.RepositoryModelUnloadResponse:
    """Unload a model. No model depends on another, so that ``unload_dependents`` changes nothing.

    Raises:
        InvalidRequestError: no model is named, or a parameter is unknown.
        UnsupportedError: the request names a repository.
        NotAllowedError, NotFoundError: see :meth:`ModelControl.unload`.
    """
    _refuse_repository(request.repository_name)
    name = named(request.model_name, "model_name")
    for key in sorted(request.parameters):
        field = f"parameters[{shown(key)}]"
        if key != "unload_dependents":
            raise InvalidRequestError(field, "is unknown; there is: unload_dependents")
        if request.parameters[key].WhichOneof("parameter_choice") != "bool_param":
            raise InvalidRequestError(field, "must be a bool_param")
    await control.unload(name)
    return pb.RepositoryModelUnloadResponse()


def _refuse_repository(name: str) -> None:
    if name:
        raise UnsupportedError("repository_name: the server has one repository; leave the name empty")
