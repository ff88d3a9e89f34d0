"""The listeners, without models behind them."""

from __future__ import annotations

import asyncio
import logging
import re
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from pydantic import ValidationError
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.server.front import Front
from kniv.server.models.catalogue import Catalogue
from kniv.server.models.modes import ControlMode
from kniv.server.settings import ServeSettings


def test_a_drain_waits_for_calls_of_administrators_too(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        begun, loaded = asyncio.Event(), asyncio.Event()

        async def load(name: str, override: str | None) -> None:
            begun.set()
            await loaded.wait()

        control: Any = SimpleNamespace(mode=ControlMode.EXPLICIT, load=load)
        served = Front(ServeSettings(port=0, admin_port=0), Catalogue(""), control, asyncio.Event())
        await served.start()
        (target,) = re.findall(r"administrators' calls are served on (\S+)", caplog.text)
        async with grpc.aio.insecure_channel(target) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            call = stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="a"), timeout=60)
            await begun.wait()
            idle = asyncio.create_task(served._inference.idle())  # what a drain waits for
            await asyncio.sleep(0)
            assert not idle.done()
            loaded.set()
            assert await call == service_pb2.RepositoryModelLoadResponse()
            await idle
        await served.drain(60, asyncio.Event())

    with caplog.at_level(logging.INFO):
        asyncio.run(main())


@pytest.mark.parametrize("end", [0.0, 1e6])
def test_grpc_takes_the_least_and_the_most_of_what_may_be_set(end: float) -> None:
    settings = ServeSettings(
        port=0,
        connection_age_seconds=end,
        connection_grace_seconds=end,
        connection_idle_seconds=end,
        ping_interval_seconds=end or 1e-3,
        message_bytes=(1 << 31) - 1 if end else 1024,
    )
    with pytest.raises(ValidationError):
        ServeSettings.model_validate({"connection_age_seconds": end * 1.01 or -1.0})

    async def main() -> None:
        control: Any = SimpleNamespace(mode=ControlMode.EXPLICIT)
        served = Front(settings, Catalogue(""), control, asyncio.Event())
        assert await served.start()
        await served.drain(60, asyncio.Event())

    asyncio.run(main())
