from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from kniv.server.models.catalogue import Catalogue, State, VersionEntry
from kniv.server.services.health import LIVENESS, Health

SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


class Loaded:
    hangs = False


class Server:
    """A catalogue with its health, and what is wrong with it."""

    def __init__(self) -> None:
        self.catalogue, self.live = Catalogue(), True
        self.health = Health(self.catalogue, ["s", "t"], self.catalogue.any_ready, lambda: self.live)

    def load(self, model: str, loaded: Any = None) -> None:
        state = State.READY if loaded else State.UNAVAILABLE
        self.catalogue.models[model] = {1: VersionEntry(state, loaded=loaded)}
        self.catalogue.changes.tell()


class Call:
    """The far end of a Watch."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[int] = asyncio.Queue()

    async def write(self, response: health_pb2.HealthCheckResponse) -> None:
        await self.seen.put(response.status)

    async def abort(self, code: grpc.StatusCode, message: str) -> None:
        raise LookupError(code)


def test_names() -> None:
    server = Server()
    status = server.health.status
    server.catalogue.starting = True
    assert [status(name) for name in ("", "s", "s/m", "x", "x/m", "s/", LIVENESS)] == [
        *[NOT_SERVING] * 3,
        *[None] * 3,
        SERVING,
    ]
    server.catalogue.starting, server.catalogue.coming = False, {"m"}
    assert [status(name) for name in ("s/m", "t/m", "s/n", "m")] == [NOT_SERVING, NOT_SERVING, None, None]
    server.load("m", Loaded())
    server.load("n")
    assert [status(name) for name in ("", "s", "s/m", "t/m", "s/n")] == [*[SERVING] * 4, NOT_SERVING]


def test_a_model_that_hangs_and_a_server_that_leaves() -> None:
    server, stuck = Server(), Loaded()
    server.load("m", stuck)
    server.load("n", Loaded())
    stuck.hangs, server.live = True, False
    assert [server.health.status(name) for name in ("", "s/m", "s/n", LIVENESS)] == [
        SERVING,
        NOT_SERVING,
        SERVING,
        NOT_SERVING,
    ]
    server.live = True
    server.health.leave()
    assert [server.health.status(name) for name in ("", "s", "s/n", LIVENESS)] == [*[NOT_SERVING] * 3, SERVING]


def test_check_of_what_is_not_there() -> None:
    with pytest.raises(LookupError, match="NOT_FOUND"):
        asyncio.run(Server().health.Check(health_pb2.HealthCheckRequest(service="s/m"), Call()))  # type: ignore[arg-type]


def test_every_watcher_is_told_of_every_change_though_another_has_left() -> None:
    async def main() -> None:
        server, calls = Server(), [Call(), Call()]
        request = health_pb2.HealthCheckRequest(service="s/m")
        watching = [asyncio.create_task(server.health.Watch(request, call)) for call in calls]  # type: ignore[arg-type]
        assert [await call.seen.get() for call in calls] == [UNKNOWN] * 2
        server.load("m", Loaded())
        assert [await call.seen.get() for call in calls] == [SERVING] * 2
        server.load("other", Loaded())  # changes nothing here
        watching[0].cancel()
        await asyncio.wait(watching[:1])
        server.load("m")
        assert await calls[1].seen.get() == NOT_SERVING
        watching[1].cancel()
        await asyncio.wait(watching)
        assert calls[0].seen.empty() and calls[1].seen.empty()
        assert not server.health._watchers

    asyncio.run(main())


def test_a_watcher_that_is_slow_sees_the_last_state() -> None:
    class Slow(Call):
        async def write(self, response: health_pb2.HealthCheckResponse) -> None:
            await gate.wait()
            await super().write(response)

    gate = asyncio.Event()

    async def main() -> None:
        server, call = Server(), Slow()
        watching = asyncio.create_task(server.health.Watch(health_pb2.HealthCheckRequest(service="s/m"), call))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        for loaded in (Loaded(), None, Loaded()):
            server.load("m", loaded)
        gate.set()
        assert [await call.seen.get(), await call.seen.get()] == [UNKNOWN, SERVING]
        watching.cancel()
        await asyncio.wait({watching})
        assert call.seen.empty()

    asyncio.run(main())
