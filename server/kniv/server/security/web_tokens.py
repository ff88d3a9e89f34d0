"""JSON web tokens (RFC 7519), checked against the keys of a local JWKS file (RFC 7517)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jwt

from kniv.server.errors import DeniedError
from kniv.server.security.caller import Caller, Grant, Proof

_SCOPE, _SCOPE_PREFIX = "scope", "kniv:"
_LONGEST = 8192
# The algorithm follows from the key, never from the token, so that no token can choose a weaker one (RFC 8725, 3.1).
_ALGORITHMS = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_SHORTEST_RSA = 2048


@dataclass(frozen=True, slots=True)
class Keys:
    """Public keys by their ``kid``, each with the one algorithm that it is for."""

    by_id: dict[str, tuple[str, jwt.PyJWK]]


def read_keys(content: bytes) -> Keys:
    """The keys of a JWKS file that are for signatures.

    Raises:
        ValueError: it is no such file, holds a secret or private key, or none that is of use.
    """
    try:
        entries = json.loads(content)["keys"]
        found = [_key(entry) for entry in entries if entry.get("use", "sig") == "sig"]
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError('it is no JWKS file: expected {"keys": [{"kty": ..., "kid": ...}, ...]}') from None
    if not found:
        raise ValueError("it holds no key for signatures")
    keys = dict(found)
    if len(keys) < len(found):
        raise ValueError("two of its keys have the same kid")
    return Keys(keys)


def _key(entry: dict[str, Any]) -> tuple[str, tuple[str, jwt.PyJWK]]:
    kid = entry.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ValueError("each of its keys needs a kid")
    name = ascii(kid[:64])
    algorithm = _ALGORITHMS.get((entry["kty"], entry.get("crv", "")))
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        raise ValueError(f"key {name} is for another algorithm than RS256, ES256 (P-256) or EdDSA (Ed25519)")
    if "d" in entry:
        raise ValueError(f"key {name} is a private key; the file must hold public ones alone")
    try:
        key = jwt.PyJWK(entry, algorithm)
    except jwt.PyJWTError as error:
        raise ValueError(f"key {name} cannot be read: {error}") from None
    if algorithm == "RS256" and key.key.key_size < _SHORTEST_RSA:
        raise ValueError(f"key {name} is shorter than {_SHORTEST_RSA} bits")
    return kid, (algorithm, key)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say.

    Attributes:
        issuer, audience: whom it must come from and be meant for.
        leeway: seconds that its times may be off.
    """

    issuer: str
    audience: str
    leeway: float


def caller_of(token: str, keys: Keys, rules: TokenRules) -> Caller:
    """The caller that a token speaks of; its grants are those of its scope.

    Raises:
        DeniedError: the token is not good. What is said of it quotes nothing of it.
    """
    try:
        if len(token) > _LONGEST:
            raise jwt.DecodeError
        header = jwt.get_unverified_header(token)
        algorithm, key = keys.by_id[header["kid"]]
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=rules.leeway,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except jwt.ExpiredSignatureError:
        raise DeniedError("CREDENTIALS_EXPIRED", "the JWT has expired") from None
    except jwt.ImmatureSignatureError:
        raise DeniedError("TOKEN_INVALID", "the JWT is not valid yet") from None
    except jwt.InvalidAudienceError:
        raise DeniedError("TOKEN_INVALID", "the JWT is meant for another audience") from None
    except jwt.InvalidIssuerError:
        raise DeniedError("TOKEN_INVALID", "the JWT comes from another issuer") from None
    except jwt.MissingRequiredClaimError as error:
        raise DeniedError("TOKEN_INVALID", f"the JWT lacks the claim '{error.claim}'") from None
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise DeniedError("TOKEN_INVALID", "the JWT cannot be verified with any key that is known here") from None
    if not claims["sub"]:
        raise DeniedError("TOKEN_INVALID", "the JWT's subject is empty")
    return Caller(Proof.JWT, claims["sub"], _grants(claims.get(_SCOPE)), expires=float(claims["exp"]) + rules.leeway)


def _grants(scope: object) -> frozenset[Grant]:
    """Grants of a scope: words ``kniv:annotate`` and so on, in a string (RFC 8693) or a list; others are ignored."""
    words = scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else []
    return frozenset(grant for grant in Grant if _SCOPE_PREFIX + grant in words)
