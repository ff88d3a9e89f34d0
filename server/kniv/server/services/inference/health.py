"""ServerReady and ModelReady."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from kniv.server.models.catalogue import Catalogue
from kniv.server.models.modes import ControlMode
from kniv.server.services.inference.parameters import named, version_of


def server_ready(catalogue: Catalogue, mode: ControlMode, draining: bool) -> bool:
    """Whether requests should be sent here.

    A server that draws no requests before it has a model, and is given its models by requests, would wait for
    ever: where callers load models, it is ready without one, once those that it loads at the start have been tried.
    """
    if draining:
        return False
    started = not (catalogue.starting or catalogue.coming)
    return catalogue.any_ready() or (mode is ControlMode.EXPLICIT and started)


def model_ready(request: pb.ModelReadyRequest, catalogue: Catalogue) -> pb.ModelReadyResponse:
    """Whether a model, or a version of it, can answer; one that is unknown cannot.

    Raises:
        InvalidRequestError: no model is named, or the version is no number.
    """
    name, version = named(request.name, "name"), version_of(request.version, "version")
    versions = catalogue.models.get(name, {})
    return pb.ModelReadyResponse(ready=any(one.ready for number, one in versions.items() if version in (0, number)))
