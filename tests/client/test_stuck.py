"""A connection whose other end has stopped reading: what is being written to it stays so."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context

import grpc
import pytest
from tests.client.conftest import FakeServer

from kniv.client import AsyncClient, CallCancelledError, Client, KnivError, _channel
from kniv.v1 import annotation_service_pb2_grpc

PATIENCE = 60
WINDOW = 1 << 27  # more than a message, so that not HTTP/2 but TCP holds it up
MESSAGE = bytes(1 << 26)  # more than the buffers of a connection take


class Proxy:
    """Forwards one connection; from the client a few bytes of a large message at most.

    Attributes:
        stuck: set once it reads no more.
    """

    def __init__(self, target: str, stack: ExitStack) -> None:
        self._stack, self._listener = stack, socket.create_server(("127.0.0.1", 0))
        self._server = target.rpartition(":")[::2]
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.stuck = threading.Event()
        self._start(self._accept)
        stack.callback(self._shut, self._listener)

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
        self._stack.callback(thread.join, PATIENCE)

    def _accept(self):
        with suppress(OSError):
            client, _ = self._listener.accept()
            host, port = self._server
            server = socket.create_connection((host, int(port)))
            for one in (client, server):
                self._stack.callback(self._shut, one)
            threading.Thread(target=self._pump, args=(server, client, 1 << 40), daemon=True).start()
            self._pump(client, server, 1 << 20)
            self.stuck.set()

    def _pump(self, source, sink, most):
        with suppress(OSError):
            while most > 0 and (content := source.recv(1 << 16)):
                most -= len(content)
                sink.sendall(content)

    def _shut(self, one):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextmanager
def stalling() -> Iterator[Proxy]:
    """Before a server with a large window; nothing notices for the client that nobody reads."""
    lasting = [option for option in _channel.CHANNEL_OPTIONS if "keepalive" not in option[0]]
    servicer, threads = FakeServer(), futures.ThreadPoolExecutor(2)
    options = [("grpc.http2.lookahead_bytes", WINDOW), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(threads, options=options)
    annotation_service_pb2_grpc.add_AnnotationServiceServicer_to_server(servicer, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(_channel, "CHANNEL_OPTIONS", (*lasting, ("grpc.use_local_subchannel_pool", 1)))
        yield Proxy(target, stack)
    server.stop(0).wait()
    threads.shutdown()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with stalling() as proxy:
        yield proxy


@pytest.mark.parametrize("leave_first", [False, True])
def test_a_client_is_closed(proxy: Proxy, leave_first: bool) -> None:
    client = Client(proxy.target)
    with ExitStack() as stack:
        stream = stack.enter_context(client.stream(reconnect=None))
        stream.chunk("d", MESSAGE, last=False)
        assert proxy.stuck.wait(PATIENCE)
        if leave_first:
            stack.close()
        closing = threading.Thread(target=client.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive()
        with pytest.raises(KnivError if leave_first else CallCancelledError):
            stream.chunk("d", b"more", last=True)
    with pytest.raises(CallCancelledError, match="the client was closed"):
        client.model()


@pytest.mark.parametrize("leave_first", [False, True])
def test_an_asynchronous_client_is_closed(leave_first: bool) -> None:
    # In a process of its own: gRPC tells of what was stuck once its loop is closed, and would tell the next one.
    with futures.ProcessPoolExecutor(1, get_context("spawn")) as process:
        process.submit(close_asynchronously, leave_first).result()


def close_asynchronously(leave_first: bool) -> None:
    with stalling() as proxy:
        asyncio.run(_leave_and_close(proxy, leave_first))


async def _leave_and_close(proxy: Proxy, leave_first: bool) -> None:
    client = AsyncClient(proxy.target)
    async with asyncio.timeout(PATIENCE):
        stream = await client.stream(reconnect=None).__aenter__()
        await stream.chunk("d", MESSAGE, last=False)
        assert await asyncio.to_thread(proxy.stuck.wait, PATIENCE)
        if leave_first:
            await stream.__aexit__(None, None, None)
        await client.close()
        with pytest.raises(KnivError if leave_first else CallCancelledError):
            await stream.chunk("d", b"more", last=True)
        if not leave_first:
            await stream.__aexit__(None, None, None)
