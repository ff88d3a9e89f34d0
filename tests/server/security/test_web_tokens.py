from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from kniv.server.errors import DeniedError
from kniv.server.security.caller import Grant, Proof
from kniv.server.security.web_tokens import TokenRules, caller_of, read_keys

RULES = TokenRules("https://issuer.example", "kniv", 30.0)
RSA_KEY = rsa.generate_private_key(65537, 2048)
PRIVATE: dict[str, Any] = {
    "RS256": RSA_KEY,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
TO_JWK: dict[str, Callable[..., Any]] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}


def jwk(algorithm: str, **fields: object) -> dict[str, Any]:
    return TO_JWK[algorithm](PRIVATE[algorithm].public_key(), as_dict=True) | {"kid": algorithm} | fields


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


KEYS = read_keys(jwks(*(jwk(algorithm) for algorithm in PRIVATE)))


def claims(**changes: object) -> dict[str, Any]:
    now = time.time()
    usual = {"iss": RULES.issuer, "aud": "kniv", "sub": "ada", "exp": now + 600, "scope": "openid kniv:annotate"}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def signed(algorithm: str = "ES256", kid: str | None = None, **changes: object) -> str:
    headers = {"kid": algorithm if kid is None else kid}
    return jwt.encode(claims(**changes), PRIVATE[algorithm], algorithm, headers)


def refusal(token: str) -> DeniedError:
    with pytest.raises(DeniedError) as refused:
        caller_of(token, KEYS, RULES)
    assert token[:20] not in str(refused.value) or not token
    return refused.value


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_a_good_token(algorithm: str) -> None:
    exp = time.time() + 600
    caller = caller_of(signed(algorithm, exp=exp), KEYS, RULES)
    assert (caller.proof, caller.name, caller.grants) == (Proof.JWT, "ada", {Grant.ANNOTATE})
    assert caller.expires == pytest.approx(exp + RULES.leeway, abs=1)


@pytest.mark.parametrize(
    ("scope", "grants"),
    [
        (None, set()),
        ("annotate admin", set()),
        ("kniv:admin kniv:infer", {Grant.ADMIN, Grant.INFER}),
        (["kniv:annotate", 7], {Grant.ANNOTATE}),
        (7, set()),
    ],
)
def test_grants_come_from_the_scope(scope: object, grants: set[Grant]) -> None:
    assert caller_of(signed(scope=scope), KEYS, RULES).grants == grants


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"exp": time.time() - 60}, "CREDENTIALS_EXPIRED", "expired"),
        ({"nbf": time.time() + 86_400}, "TOKEN_INVALID", "not valid yet"),
        ({"aud": "other"}, "TOKEN_INVALID", "audience"),
        ({"iss": "https://other.example"}, "TOKEN_INVALID", "issuer"),
        ({"exp": None}, "TOKEN_INVALID", "'exp'"),
        ({"aud": None}, "TOKEN_INVALID", "'aud'"),
        ({"iss": None}, "TOKEN_INVALID", "'iss'"),
        ({"sub": None}, "TOKEN_INVALID", "'sub'"),
        ({"sub": ""}, "TOKEN_INVALID", "subject"),
    ],
)
def test_claims_at_fault(changes: dict[str, object], reason: str, said: str) -> None:
    error = refusal(signed(**changes))
    assert error.reason == reason
    assert said in str(error)


def test_times_may_be_off_by_the_leeway() -> None:
    assert caller_of(signed(exp=time.time() - 15, nbf=time.time() + 15), KEYS, RULES).name == "ada"


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_an_unsigned_token_is_refused() -> None:
    refusal(f"{part({'alg': 'none', 'kid': 'ES256'})}.{part(claims())}.")


def test_a_public_key_is_not_taken_for_a_shared_secret() -> None:
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    content = f"{part({'alg': 'HS256', 'kid': 'RS256'})}.{part(claims())}"
    signature = base64.urlsafe_b64encode(hmac.digest(public, content.encode(), hashlib.sha256)).rstrip(b"=").decode()
    refusal(f"{content}.{signature}")


@pytest.mark.parametrize("kid", ["RS256", "EdDSA", "unknown", ""])
def test_another_keys_name_does_not_help(kid: str) -> None:
    refusal(signed("ES256", kid))


def test_a_token_without_kid_is_refused() -> None:
    refusal(jwt.encode(claims(), PRIVATE["ES256"], "ES256"))


def test_a_token_that_was_changed_is_refused() -> None:
    head, _, signature = signed().split(".")
    refusal(f"{head}.{part(claims(scope='kniv:admin'))}.{signature}")


DEEP = base64.urlsafe_b64encode(b"[" * 3000).rstrip(b"=").decode()


@pytest.mark.parametrize("token", ["..", "a.b.c", "x" * 9000 + "..", "é.é.é", f"{DEEP}.a.b"])
def test_nonsense_is_refused(token: str) -> None:
    with pytest.raises(DeniedError):
        caller_of(token, KEYS, RULES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JWKS"),
        (b"[]", "no JWKS"),
        (b'{"keys": 7}', "no JWKS"),
        (b'{"keys": [7]}', "no JWKS"),
        (jwks(), "no key for signatures"),
        (jwks(jwk("ES256", use="enc")), "no key for signatures"),
        (jwks(jwk("ES256"), jwk("RS256", kid="ES256")), "same kid"),
        (jwks({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}), "another algorithm"),
        (jwks(jwk("RS256", alg="PS256")), "another algorithm"),
        (jwks(jwk("EdDSA", alg="ES256")), "another algorithm"),
        (jwks(jwk("ES256", kid=None)), "needs a kid"),
        (jwks(jwk("ES256", d="AAAA")), "private key"),
        (jwks(jwk("ES256", x="AAAA")), "cannot be read"),
    ],
)
def test_key_files_at_fault(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_keys(content)


def test_a_short_key_is_refused() -> None:
    numbers = rsa.RSAPublicNumbers(65537, RSA_KEY.public_key().public_numbers().n >> 1024)
    weak = RSAAlgorithm.to_jwk(numbers.public_key(), as_dict=True) | {"kid": "weak"}
    with pytest.raises(ValueError, match="2048"):
        read_keys(jwks(weak))
