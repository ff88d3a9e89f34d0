"""What signals do to a server, and how it leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kniv.server.app import _on_signals, serve
from kniv.server.services import texts
from kniv.server.settings import ServeSettings
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs


@pytest.fixture
def interpreter() -> Iterator[None]:
    """Puts back what a server sets for its process."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def test_a_stop_that_was_no_signal_leaves_the_first_signal_patient() -> None:
    """A run that hangs stops the server; the supervisor's one SIGTERM then must not cut the drain short."""

    async def main() -> None:
        stopping, forced, heeded = asyncio.Event(), asyncio.Event(), asyncio.Event()
        _on_signals(stopping, forced)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heeded.set)
        stopping.set()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)  # heeded after the one before
        await heeded.wait()
        assert not forced.is_set()
        signal.raise_signal(signal.SIGINT)
        await forced.wait()

    asyncio.run(main())


def test_the_first_signal_stops_and_the_second_hastens() -> None:
    async def main() -> None:
        stopping, forced = asyncio.Event(), asyncio.Event()
        _on_signals(stopping, forced)
        signal.raise_signal(signal.SIGTERM)
        await stopping.wait()
        assert not forced.is_set()
        for _ in range(2):  # a third changes nothing
            signal.raise_signal(signal.SIGTERM)
            await forced.wait()

    asyncio.run(main())


@pytest.mark.usefixtures("interpreter")
def test_a_thread_that_is_still_at_work_on_a_text_is_told_of(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a forced stop would wait for it."""
    begun, ended = threading.Event(), threading.Event()

    def endless(text: str) -> list[Any]:
        begun.set()
        ended.wait()
        return []

    async def stop(port: int) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="On and on. " * 1000)])
            call = stubs.AnnotationServiceStub(channel).AnnotateText(request)
            assert await asyncio.to_thread(begun.wait, 60)
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError):
                await call

    async def main() -> bool:
        stopping: list[asyncio.Task[None]] = []
        settings = ServeSettings(port=0, model_repository=mini.parent.parent, default_model="kniv-mini")
        try:
            left = await serve(settings, ready=lambda port: stopping.append(asyncio.create_task(stop(port))))
            await stopping[0]
        finally:
            ended.set()
        return left

    monkeypatch.setattr(texts, "sentences", endless)
    assert not asyncio.run(main())
