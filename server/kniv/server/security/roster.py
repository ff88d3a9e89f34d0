"""The callers' file: one line a caller, with what it may do.

    billing = { sha256 = "9f86d0…", grants = ["annotate"], expires = 2027-06-30T00:00:00Z, limits = { calls = 8 } }
    edge = { certificate = "edge.example.org", grants = ["annotate", "infer"] }
    operators = { subject = "ops@example.org", grants = ["admin"] }

Each is known by one of these: its token's digest, a name in its certificate, its JWT's subject.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from kniv.server.errors import DeniedError
from kniv.server.security.caller import EVERY_GRANT, Bounds, Caller, Grant, Proof

_PREFIX, _TOKEN_BYTES = "kniv_", 32
_LONGEST_NAME = 128
_VISIBLE = range(0x21, 0x7F)


class _Limits(BaseModel):
    """See :class:`Bounds`."""

    model_config = ConfigDict(extra="forbid")

    calls: int = Field(0, ge=0)
    rows: int = Field(0, ge=0)
    bytes: int = Field(0, ge=0)
    messages_per_second: float = Field(0, ge=0, allow_inf_nan=False)
    bytes_per_second: float = Field(0, ge=0, allow_inf_nan=False)


class _Entry(BaseModel):
    """One caller, as the file has it."""

    model_config = ConfigDict(extra="forbid")

    sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$")
    certificate: str | None = Field(None, min_length=1)
    subject: str | None = Field(None, min_length=1)
    grants: list[Grant]
    expires: datetime | None = None
    limits: _Limits | None = None

    @model_validator(mode="after")
    def _one_proof(self) -> _Entry:
        if sum(proof is not None for proof in (self.sha256, self.certificate, self.subject)) != 1:
            raise ValueError("needs one of sha256, certificate and subject")
        return self

    def caller(self, name: str, proof: Proof) -> Caller:
        when = self.expires
        if when is not None and when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        bounds = None if self.limits is None else Bounds(**self.limits.model_dump())
        return Caller(proof, name, frozenset(self.grants), bounds, inf if when is None else when.timestamp())


_ENTRIES = TypeAdapter(dict[Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)], _Entry])


@dataclass(frozen=True, slots=True)
class Roster:
    """The callers that are known by name.

    Attributes:
        tokens: SHA-256 of each token, with whose it is. The tokens themselves are nowhere.
        certificates, subjects: callers by a name in their certificate, or by their JWT's subject.
    """

    tokens: tuple[tuple[bytes, Caller], ...] = ()
    certificates: Mapping[str, Caller] = field(default_factory=dict)
    subjects: Mapping[str, Caller] = field(default_factory=dict)

    def by_token(self, token: bytes, now: float) -> Caller | None:
        """Whose token this is; None if nobody's.

        Args:
            token: as the call carries it.
            now: Unix time.

        Raises:
            DeniedError: its time is over.
        """
        digest, found = hashlib.sha256(token).digest(), None
        # All are compared, each in constant time, so that the time taken tells nothing of what is in the file.
        for known, caller in self.tokens:
            if hmac.compare_digest(digest, known):
                found = caller
        return found and _in_time(found, now)

    def by_certificate(self, names: Iterable[str], now: float) -> Caller | None:
        """The caller whom one of a certificate's names belongs to; None if none does.

        Raises:
            DeniedError: its time is over.
        """
        found = next((self.certificates[name] for name in names if name in self.certificates), None)
        return found and _in_time(found, now)

    def by_subject(self, subject: str, now: float) -> Caller | None:
        """The caller whom a JWT's subject belongs to; None if there is none.

        Raises:
            DeniedError: its time is over.
        """
        found = self.subjects.get(subject)
        return found and _in_time(found, now)


def read_roster(content: bytes) -> Roster:
    """The callers' file.

    Raises:
        ValueError: it is no such file, or an entry is at fault: named, without anything that may be secret.
    """
    try:
        entries = _ENTRIES.validate_python(tomllib.loads(content.decode()))
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    except ValueError as error:
        raise ValueError(f"it is no TOML file: {error}") from None
    tokens = [(bytes.fromhex(one.sha256), one.caller(name, Proof.TOKEN)) for name, one in entries.items() if one.sha256]
    # Under the names that they prove, as those who are not in the file are, so that nobody can take another's.
    certificates = [
        (one.certificate, one.caller(one.certificate, Proof.CERTIFICATE)) for one in entries.values() if one.certificate
    ]
    subjects = [(one.subject, one.caller(one.subject, Proof.JWT)) for one in entries.values() if one.subject]
    for what, keys in (
        ("sha256", [key for key, _ in tokens]),
        ("certificate", [key for key, _ in certificates]),
        ("subject", [key for key, _ in subjects]),
    ):
        if len(set(keys)) < len(keys):
            raise ValueError(f"two callers have the same {what}")
    return Roster(tuple(tokens), dict(certificates), dict(subjects))


def read_admin_token(content: bytes) -> Roster:
    """A file with one token, which may do everything.

    Raises:
        ValueError: it holds no token.
    """
    token = content.strip()
    if not token or any(byte not in _VISIBLE for byte in token):
        raise ValueError("it must hold one token of visible ASCII characters")
    return Roster(tokens=((hashlib.sha256(token).digest(), Caller(Proof.TOKEN, "admin", EVERY_GRANT)),))


def new_token(name: str, grants: Sequence[Grant], expires: datetime | None) -> tuple[str, str]:
    """Make a token.

    Args:
        name: whose it is to be.
        grants: what it may do.
        expires: when it ends, if ever.

    Returns:
        The token, of 256 random bits, and the line for the callers' file.
    """
    token = _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    fields = [
        f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"',
        f"grants = {json.dumps(grants)}",
    ]
    if expires is not None:
        fields.append(f"expires = {expires.astimezone(UTC).replace(microsecond=0).isoformat()}")
    return token, f"{name} = {{ {', '.join(fields)} }}"


def _in_time(caller: Caller, now: float) -> Caller:
    if now >= caller.expires:
        raise DeniedError("CREDENTIALS_EXPIRED", f"what the caller ({caller}) was given to prove itself has expired")
    return caller
