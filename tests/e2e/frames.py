"""A client that speaks HTTP/2 frame by frame (RFC 9113), for what no gRPC client would do."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _PING, _GOAWAY, _ACK = 4, 6, 7, 1


@dataclass(frozen=True)
class GoAway:
    """Why a server ended a connection: an error code, 0 for none, and words about it."""

    code: int
    words: str


class Connection:
    """A connection on which there are no calls."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        socket.sendall(_PREFACE + _frame(_SETTINGS))

    def ping(self) -> None:
        """Send a ping that is no answer."""
        self._socket.sendall(_frame(_PING, content=b"8 octets"))

    def goaway(self) -> GoAway:
        """Read until the server says goodbye; its own pings are answered."""
        while True:
            size, kind, flags, _ = struct.unpack(">I", b"\0" + self._take(3))[0], *struct.unpack(">BBI", self._take(6))
            content = self._take(size)
            if kind == _PING and not flags & _ACK:
                self._socket.sendall(_frame(_PING, _ACK, content))
            if kind == _GOAWAY:
                return GoAway(struct.unpack(">I", content[4:8])[0], content[8:].decode())

    def _take(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            more = self._socket.recv(size - len(content))
            assert more, "the connection was closed without a word"
            content += more
        return content


def _frame(kind: int, flags: int = 0, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, 0) + content


@contextmanager
def connected(target: str) -> Iterator[Connection]:
    """A connection to ``host:port``."""
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as one:
        yield Connection(one)
