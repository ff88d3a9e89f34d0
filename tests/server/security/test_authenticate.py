from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kniv.server.errors import DeniedError, ServeError
from kniv.server.security.authenticate import Authenticator, Evidence, address_of
from kniv.server.security.caller import EVERY_GRANT, Caller, Grant, Proof
from kniv.server.security.configure import anonymous_grants_of, authenticator_of
from kniv.server.security.roster import new_token
from kniv.server.security.settings import SecuritySettings

TOKEN, LINE = new_token("billing", [Grant.ANNOTATE], None)
PEER = "ipv4:192.0.2.1:50000"


@pytest.fixture
def guarded(tmp_path: Path) -> Authenticator:
    """Knows a token, and an administrator's in a file of its own."""
    (tmp_path / "callers").write_text(LINE + '\nedge = { certificate = "edge", grants = ["infer"] }\n')
    (tmp_path / "admin").write_text("s3cret")
    return authenticator_of(SecuritySettings(callers_file=tmp_path / "callers", admin_token_file=tmp_path / "admin"))


def bearing(*values: str | bytes, certificate: tuple[str, ...] = ()) -> Evidence:
    return Evidence(values, certificate, PEER)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (f"Bearer {TOKEN}", "billing"),
        (f"bearer {TOKEN}", "billing"),
        (f"BEARER  {TOKEN} ", "billing"),
        (f"Bearer {TOKEN}".encode(), "billing"),
        ("Bearer s3cret", "admin"),
    ],
)
def test_tokens_of_all_files_are_known(guarded: Authenticator, value: str, name: str) -> None:
    assert guarded.caller(bearing(value)).name == name


@pytest.mark.parametrize(
    "values",
    [
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (TOKEN,),
        (f"Basic {TOKEN}",),
        (f"Bearer {TOKEN}x",),
        (f"Bearer {TOKEN[:-1]}",),
        (f"Bearer {TOKEN}", "Bearer other"),
        ("Bearer é",),
        ("Bearer a.b.c",),
    ],
)
def test_nothing_else_is_whatever_the_certificate(guarded: Authenticator, values: tuple[str, ...]) -> None:
    with pytest.raises(DeniedError) as refused:
        guarded.caller(bearing(*values, certificate=("edge",)))
    assert refused.value.reason == "TOKEN_INVALID"
    assert TOKEN not in str(refused.value)


def test_a_token_of_a_file_may_look_like_a_jwt(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text("to.be.sure")
    read: list[str] = []

    def read_jwt(token: str) -> Caller:
        read.append(token)
        return Caller(Proof.JWT, "ada")

    known = authenticator_of(SecuritySettings(admin_token_file=tmp_path / "admin"))
    both = replace(known, read_jwt=read_jwt)
    assert both.caller(bearing("Bearer to.be.sure")).name == "admin"
    assert both.caller(bearing("Bearer a.b.c")).name == "ada"
    assert read == ["a.b.c"]


def test_a_token_goes_before_a_certificate_and_that_before_nothing(guarded: Authenticator) -> None:
    assert guarded.caller(bearing(f"Bearer {TOKEN}", certificate=("edge",))).proof is Proof.TOKEN
    assert guarded.caller(bearing(certificate=("spiffe://a", "edge"))).grants == {Grant.INFER}
    other = guarded.caller(bearing(certificate=("spiffe://a", "b")))
    assert (other.name, other.grants) == ("spiffe://a", {Grant.ANNOTATE, Grant.INFER})
    assert guarded.caller(bearing()) == Caller(Proof.NONE, "192.0.2.1", frozenset())


def test_where_no_tokens_are_taken_they_mean_nothing() -> None:
    assert authenticator_of(SecuritySettings()).caller(bearing("Bearer x")).grants == EVERY_GRANT


@pytest.mark.parametrize(
    ("settings", "grants"),
    [
        ({}, EVERY_GRANT),
        ({"admin_token_file": "x"}, EVERY_GRANT - {Grant.ADMIN}),
        ({"callers_file": "x"}, frozenset()),
        ({"jwt_keys_file": "x"}, frozenset()),
        ({"tls_client_ca": "x"}, frozenset()),
        ({"callers_file": "x", "anonymous_grants": ["infer"]}, frozenset({Grant.INFER})),
        ({"anonymous_grants": []}, frozenset()),
    ],
)
def test_what_anybody_may_do(settings: dict[str, object], grants: frozenset[Grant]) -> None:
    assert anonymous_grants_of(SecuritySettings.model_validate(settings)) == grants


@pytest.mark.parametrize(
    "settings",
    [{"jwt_keys_file": "x"}, {"jwt_keys_file": "x", "jwt_issuer": "y"}, {"jwt_audience": "kniv"}],
)
def test_jwts_need_keys_issuer_and_audience(settings: dict[str, object]) -> None:
    with pytest.raises(ServeError, match="--jwt-"):
        authenticator_of(SecuritySettings.model_validate(settings))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (PEER, "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("unix:/run/kniv.sock", "unix:/run/kniv.sock"),
        ("", ""),
    ],
)
def test_connections_of_one_host_have_one_address(peer: str, address: str) -> None:
    assert address_of(peer) == address


def test_names_cannot_forge_log_lines() -> None:
    assert str(Caller(Proof.JWT, "ada\n2026 ERROR all is lost")) == "jwt ada�2026 ERROR all is lost"
    assert len(str(Caller(Proof.JWT, "x" * 10_000))) < 200
