"""grpc.health.v1.Health: whether the server, and each of its models, answers; see ``docs/lifecycle.md``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kniv.server.models.catalogue import Catalogue
from kniv.server.services.rpc import Context

Request: TypeAlias = health_pb2.HealthCheckRequest
Response: TypeAlias = health_pb2.HealthCheckResponse

SERVICE: str = health.SERVICE_NAME
LIVENESS = "liveness"


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """Answers for these names, always with what holds at the moment:

    - ``""`` and the name of each service: requests should be sent here.
    - ``<service>/<model>``: the model can answer. Until the repository has been looked at, every model is NOT_SERVING.
    - ``liveness``: nothing is wrong that a restart would mend. It holds during start-up and drain.

    A watcher is sent the present state and then each change; one that reads slowly is sent the last.

    Args:
        catalogue: the models.
        services: names of the services.
        ready: whether requests should be sent here, but for the server's own end.
        live: whether nothing is wrong that a restart would mend.
    """

    def __init__(
        self, catalogue: Catalogue, services: Collection[str], ready: Callable[[], bool], live: Callable[[], bool]
    ) -> None:
        self._catalogue, self._services = catalogue, frozenset(services)
        self._ready, self._live = ready, live
        self._leaving = False
        self._watchers: set[asyncio.Event] = set()
        catalogue.changes.listen(self._tell)

    def leave(self) -> None:
        """The server is about to stop: nothing is to be sent here any more."""
        self._leaving = True
        self._tell()

    def status(self, name: str) -> int | None:
        """The status of a name, None if there is nothing of this name."""
        if name == LIVENESS:
            return _status(self._live())
        if not name or name in self._services:
            return _status(not self._leaving and self._ready())
        service, _, model = name.partition("/")
        known = self._catalogue.starting or model in self._catalogue.models or model in self._catalogue.coming
        if service not in self._services or not model or not known:
            return None
        return _status(not self._leaving and self._catalogue.ready(model))

    async def Check(self, request: Request, context: Context) -> Response:  # noqa: N802 - the method's name
        """The status of a name."""
        status = self.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no service or model of this name")
        return Response(status=status)

    async def Watch(self, request: Request, context: Context) -> None:  # noqa: N802
        """The status of a name, and each change of it."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        last = None
        try:
            while True:
                changed.clear()
                status = self.status(request.service)
                status = Response.SERVICE_UNKNOWN if status is None else status
                if status != last:
                    last = status
                    await context.write(Response(status=status))
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher.set()


def _status(good: bool) -> int:
    return int(Response.SERVING if good else Response.NOT_SERVING)
