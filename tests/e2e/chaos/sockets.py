"""What goes wrong below gRPC: connections that fall silent, and a proxy that stops forwarding."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.e2e.chaos.callers import ONE_ROW, TEXT
from tests.e2e.wire import Request, configuration, turn

# https://www.rfc-editor.org/rfc/rfc9113: the client's preface and the types of frames.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4
_CHUNK = 1 << 16
_AGAIN = 0.1  # seconds between two looks for connections to be closed


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def _field(name: str, value: str) -> bytes:
    """A header that is neither indexed nor compressed: https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _call(method: str) -> bytes:
    """What opens a call: its headers, in a connection's first stream."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "silent",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return _frame(_HEADERS, _END_HEADERS, 1, b"".join(_field(*one) for one in fields.items()))


def _message(request: Request) -> bytes:
    content = request.SerializeToString()
    return _frame(_DATA, 0, 1, struct.pack("!BI", 0, len(content)) + content)


_OPEN = PREFACE + _frame(_SETTINGS, 0, 0, b"")
_STREAM = _OPEN + _call("/kniv.v1.AnnotationService/StreamAnnotations")
_CONFIGURED = _STREAM + _message(configuration(options=ONE_ROW))

# What is sent before a connection falls silent.
SILENT = {
    "nothing": b"",
    "half a preface": PREFACE[:9],
    "preface": PREFACE,
    "settings": _OPEN,
    "half the headers": _STREAM[:-20],
    "an open stream": _STREAM,
    "a configured stream": _CONFIGURED,
    "half a message": (_CONFIGURED + _message(turn("1", TEXT)))[:-20],
    "a turn": _CONFIGURED + _message(turn("1", TEXT)),
    "a turn of another world": _CONFIGURED + _frame(_DATA, 0, 1, struct.pack("!BI", 0, 5) + b"\xff" * 5),
}


def connected(target: str) -> socket.socket:
    """A bare connection."""
    host, _, port = target.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


@contextmanager
def silent(target: str, number: int) -> Iterator[list[socket.socket]]:
    """So many connections of each kind in :data:`SILENT`; in the end half of them are closed, half torn down."""
    with ExitStack() as stack:
        opened = []
        for sent in list(SILENT.values()) * number:
            opened.append(stack.enter_context(connected(target)))
            opened[-1].sendall(sent)
        yield opened
        for one in opened[::2]:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Proxy:
    """Forwards connections to a server until it is told to stop; then all stay open and nothing gets through."""

    def __init__(self, target: str) -> None:
        self._server = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._stopped = threading.Event()
        self._ends: list[socket.socket] = []

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Forward; at the end all connections are closed."""
        threads = [threading.Thread(target=self._accept)]
        threads[0].start()
        try:
            yield self
        finally:
            self._stopped.set()
            while threads[0].is_alive():  # a connection may still have been on its way
                for one in (self._listener, *self._ends):
                    # Wakes those who wait in it, which closing alone would not.
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
                    one.close()
                threads[0].join(_AGAIN)

    def stop(self) -> None:
        """Forward nothing any more."""
        self._stopped.set()

    def _accept(self) -> None:
        pumps = []
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = connected(self._server)
                self._ends += [client, server]
                for pair in ((client, server), (server, client)):
                    pumps.append(threading.Thread(target=self._pump, args=pair))
                    pumps[-1].start()
        for pump in pumps:
            pump.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(_CHUNK):
                if self._stopped.is_set():
                    return
                sink.sendall(content)
            if not self._stopped.is_set():
                sink.shutdown(socket.SHUT_WR)
