"""From what a call brings along to who calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from kniv.server.errors import DeniedError
from kniv.server.security.caller import Caller, Grant, Proof
from kniv.server.security.roster import Roster
from kniv.server.security.watched import Watched

_JWT_DOTS = 2


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a call brings along.

    Attributes:
        authorization: values of the metadata of this name.
        certificate: names in the client's certificate, which TLS has verified: the alternative ones, then the common
            one. Empty without a certificate.
        peer: the other end of the connection, as gRPC writes it: ``ipv4:192.0.2.1:50000``.
    """

    authorization: Sequence[str | bytes]
    certificate: Sequence[str]
    peer: str


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Finds out who calls: by a bearer token if the call has one, else by its certificate, else nobody knows.

    Attributes:
        rosters: the files with callers.
        read_jwt: whom a JWT speaks of, or a DeniedError; None where none are taken.
        keys: the files that ``read_jwt`` reads.
        certificate_grants: what a certificate's holder may do that is in no roster.
        anonymous_grants: what everybody may do.
        clock: Unix time.
    """

    rosters: tuple[Watched[Roster], ...] = ()
    read_jwt: Callable[[str], Caller] | None = None
    keys: tuple[Watched[Any], ...] = ()
    certificate_grants: frozenset[Grant] = frozenset()
    anonymous_grants: frozenset[Grant] = frozenset()
    clock: Callable[[], float] = time.time

    @property
    def takes_tokens(self) -> bool:
        """Whether there is any token that would be taken."""
        return bool(self.rosters) or self.read_jwt is not None

    @property
    def changes(self) -> bool:
        """Whether what is found out may change with time."""
        return bool(self.rosters or self.keys)

    def known(self) -> tuple[object, ...]:
        """What all files say now; while it stays equal, so does what is found out of the same evidence."""
        return tuple(watched.current() for watched in (*self.rosters, *self.keys))

    def caller(self, evidence: Evidence) -> Caller:
        """Who makes a call.

        Raises:
            DeniedError: what it brings to prove that is not good.
        """
        if evidence.authorization and self.takes_tokens:
            return self._by_token(_bearer(evidence.authorization))
        if evidence.certificate:
            return self._by_certificate(evidence.certificate)
        return Caller(Proof.NONE, address_of(evidence.peer), self.anonymous_grants)

    def _by_token(self, token: bytes) -> Caller:
        now = self.clock()
        for watched in self.rosters:
            if (known := watched.current().by_token(token, now)) is not None:
                return known
        if self.read_jwt is None or token.count(b".") != _JWT_DOTS:
            raise DeniedError("TOKEN_INVALID", "the metadata 'authorization' carries no token that is known here")
        caller = self.read_jwt(token.decode())
        for watched in self.rosters:
            if (known := watched.current().by_subject(caller.name, now)) is not None:
                return replace(known, expires=min(known.expires, caller.expires))
        return caller

    def _by_certificate(self, names: Sequence[str]) -> Caller:
        for watched in self.rosters:
            if (known := watched.current().by_certificate(names, self.clock())) is not None:
                return known
        return Caller(Proof.CERTIFICATE, names[0], self.certificate_grants)


def _bearer(values: Sequence[str | bytes]) -> bytes:
    """The token of ``authorization: Bearer TOKEN`` (RFC 6750)."""
    text = values[0] if isinstance(values[0], bytes) else values[0].encode()
    scheme, _, token = text.partition(b" ")
    token = token.strip()
    if len(values) > 1 or scheme.lower() != b"bearer" or not token or not token.isascii():
        raise DeniedError("TOKEN_INVALID", "the metadata 'authorization' must be one 'Bearer TOKEN'")
    return token


def address_of(peer: str) -> str:
    """A peer without its port, so that the connections of one host are one caller's."""
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
