"""Write the health check in deploy/haproxy.cfg anew: the bytes of a gRPC call, for HAProxy's tcp-check.

HAProxy 2.6 has no gRPC check of its own, and its HTTP checks end in an error with gRPC's servers. So the check sends
the bytes of a call to grpc.health.v1.Health/Check (RFC 9113, and RFC 7541 for the headers), and waits for those of the
answer.
"""

from __future__ import annotations

import struct
from pathlib import Path

CONFIGURATION = Path(__file__).resolve().parent.parent / "deploy" / "haproxy.cfg"
BEGIN, END = "    # check: made by scripts/haproxy_check.py\n", "    # end of check\n"
_DATA, _HEADERS, _SETTINGS = 0x0, 0x1, 0x4
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_STREAM = 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/grpc.health.v1.Health/Check",
    ":authority": "haproxy",
    "content-type": "application/grpc",
    "te": "trailers",
}
SERVING = b"\x08\x01"  # HealthCheckResponse(status=SERVING)
NOT_SERVING = b"\x08\x02"


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def literal(name: str, value: str) -> bytes:
    """A header field as two plain strings shorter than 127 bytes, which no table remembers (RFC 7541, 6.2.2)."""
    return b"\x00" + b"".join(bytes([len(text)]) + text.encode("ascii") for text in (name, value))


def message(content: bytes) -> bytes:
    """A gRPC message: not compressed, its length, and what it says."""
    return struct.pack(">BI", 0, len(content)) + content


def sent() -> dict[str, bytes]:
    """What is sent, each with what it is."""
    fields = b"".join(literal(name, value) for name, value in HEADERS.items())
    return {
        "the preface of HTTP/2": PREFACE,
        "SETTINGS, all as usual": frame(_SETTINGS, 0, 0),
        "HEADERS of a call to grpc.health.v1.Health/Check": frame(_HEADERS, _END_HEADERS, _STREAM, fields),
        'DATA, its end: HealthCheckRequest(service="")': frame(_DATA, _END_STREAM, _STREAM, message(b"")),
    }


def lines() -> str:
    """The directives."""
    serving, not_serving = message(SERVING).hex(), message(NOT_SERVING).hex()
    rules = ["option tcp-check"]
    for what, content in sent().items():
        rules += [f"# {what}", f"tcp-check send-binary {content.hex()}"]
    rules += [
        "# DATA comes with SERVING or NOT_SERVING, or the replica is down.",
        f"tcp-check expect rbinary {serving}|{not_serving}",
        "# Not SERVING: no new calls (NOLB), and those that it has go on.",
        f"tcp-check expect min-recv 1 error-status L7OKC binary {serving}",
    ]
    return "".join(f"    {rule}\n" for rule in rules)


def renewed(configuration: str) -> str:
    """The configuration with today's check."""
    head, _, rest = configuration.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + lines() + END + tail


if __name__ == "__main__":
    CONFIGURATION.write_text(renewed(CONFIGURATION.read_text(encoding="utf-8")), encoding="utf-8")
