"""How a client shows who it is, and makes sure of the server."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from kniv.client._errors import InvalidRequestError

BearerToken: TypeAlias = str | Callable[[], str]
"""A bearer token, or what gives the one to be used now, for tokens that expire: called before each call."""


def tls_credentials(
    *,
    ca_file: str | os.PathLike[str] | None = None,
    certificate_file: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | None = None,
) -> grpc.ChannelCredentials:
    """Credentials for a client of a server with TLS, from PEM files.

    ``ca_file`` has the authorities that the server's certificate may come from; the usual public ones if None.
    ``certificate_file`` and ``key_file`` are what the client shows to a server that asks for it (mutual TLS). Raises
    OSError where a file cannot be read, and InvalidRequestError where one of a pair is missing.
    """
    if (certificate_file is None) != (key_file is None):
        raise InvalidRequestError("certificate_file and key_file belong together: give both, or neither")
    ca, key, certificate = (
        None if path is None else Path(path).read_bytes() for path in (ca_file, key_file, certificate_file)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


class Authorization:
    """Adds the token to calls. As plain metadata: gRPC's call credentials are not sent without TLS, even on loopback.

    Raises InvalidRequestError if the token would leave this machine in clear.
    """

    def __init__(self, token: BearerToken, target: str, *, secure: bool) -> None:
        if not secure and not _stays_here(target):
            raise InvalidRequestError(
                f"token: it would travel to {target} in clear; give credentials too, see tls_credentials"
            )
        self._token = token

    def added_to(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method of a stub, with the token in its metadata."""

        def call(*arguments: Any, **named: Any) -> Any:
            token = self._token if isinstance(self._token, str) else self._token()
            return method(*arguments, metadata=(("authorization", f"Bearer {token}"),), **named)

        return call


def _stays_here(target: str) -> bool:
    """Whether a gRPC target is on this machine."""
    scheme, colon, address = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    if colon and scheme in ("dns", "ipv4", "ipv6"):
        target = address.rpartition("/")[2] if address.startswith("//") else address
    host = target.rpartition(":")[0].strip("[]") or target
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
