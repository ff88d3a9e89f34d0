"""Who calls: a name, how it was proved, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from kniv.server.errors import ForbiddenError

_SHOWN = 128


class Grant(StrEnum):
    """What a caller may be allowed to do."""

    ANNOTATE = "annotate"
    INFER = "infer"
    ADMIN = "admin"


EVERY_GRANT = frozenset(Grant)


class Proof(StrEnum):
    """How a caller has shown who it is."""

    NONE = "anonymous"
    TOKEN = "token"
    JWT = "jwt"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one caller may use at once, over all its connections; 0 for no bound.

    Attributes:
        calls: calls and streams under way.
        rows, bytes: rows that wait or run, and their bytes.
        messages_per_second, bytes_per_second: of requests, a call being one message.
    """

    calls: int = 0
    rows: int = 0
    bytes: int = 0
    messages_per_second: float = 0.0
    bytes_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a call.

    Attributes:
        proof: how it has shown who it is.
        name: unique among the callers of the same proof: of its token, a JWT's subject, a certificate's name; for
            an anonymous caller its address.
        grants: what it may do.
        bounds: its own bounds, where it has such.
        expires: when what it has shown ends, in seconds of Unix time.
    """

    proof: Proof = Proof.NONE
    name: str = ""
    grants: frozenset[Grant] = field(default=frozenset())
    bounds: Bounds | None = None
    expires: float = inf

    def __str__(self) -> str:
        name = "".join(sign if sign.isprintable() else "�" for sign in self.name[:_SHOWN])
        return f"{self.proof} {name}".rstrip()

    def require(self, grant: Grant) -> None:
        """Let the caller pass if it may do this.

        Raises:
            ForbiddenError: it may not.
        """
        if grant not in self.grants:
            raise ForbiddenError(grant, f"this call needs the grant '{grant}', which the caller ({self}) does not have")
