from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import DeniedError
from kniv.server.security.caller import EVERY_GRANT, Bounds, Grant, Proof
from kniv.server.security.roster import new_token, read_admin_token, read_roster

DIGEST = "0" * 64


@given(st.sets(st.sampled_from(Grant)), st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))))
def test_a_new_token_opens_with_its_line_and_grants_until_it_expires(
    grants: set[Grant], expires: datetime | None
) -> None:
    token, line = new_token("billing", sorted(grants), expires)
    assert token not in line
    roster = read_roster(line.encode())
    if expires is None:
        found = roster.by_token(token.encode(), 1e12)
        assert found is not None and found.grants == grants
        return
    end = expires.replace(microsecond=0).timestamp()
    caller = roster.by_token(token.encode(), end - 1)
    assert caller is not None
    assert (caller.proof, caller.name, caller.grants, caller.expires) == (Proof.TOKEN, "billing", grants, end)
    with pytest.raises(DeniedError) as late:
        roster.by_token(token.encode(), end)
    assert late.value.reason == "CREDENTIALS_EXPIRED"


@given(st.binary())
def test_nothing_else_opens(token: bytes) -> None:
    _, line = new_token("billing", [Grant.ANNOTATE], None)
    assert read_roster(line.encode()).by_token(token, 0) is None


def test_limits_certificates_and_subjects() -> None:
    roster = read_roster(b"""
        edge = { certificate = "edge.example.org", grants = ["annotate"], limits = { calls = 8, rows = 64 } }
        ops = { subject = "ops@example.org", grants = ["admin"], expires = 2030-01-01T00:00:00 }
    """)
    edge = roster.by_certificate(["other", "edge.example.org"], 0)
    assert edge is not None and edge.bounds == Bounds(calls=8, rows=64) and edge.name == "edge.example.org"
    assert roster.by_certificate(["edge"], 0) is None
    ops = roster.by_subject("ops@example.org", 0)
    assert ops is not None and ops.expires == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    with pytest.raises(DeniedError):
        roster.by_subject("ops@example.org", ops.expires)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a = {", "no TOML"),
        ("a = 1", "a"),
        ('a = { grants = ["annotate"] }', "a: .*one of sha256, certificate and subject"),
        (f'a = {{ sha256 = "{DIGEST}", subject = "x", grants = [] }}', "one of sha256"),
        (f'a = {{ sha256 = "{DIGEST}" }}', "a.grants"),
        (f'a = {{ sha256 = "{DIGEST}", grants = ["fly"] }}', "a.grants.0"),
        (f'a = {{ sha256 = "{DIGEST}", grants = [], limit = {{}} }}', "a.limit"),
        (f'a = {{ sha256 = "{DIGEST}", grants = [], limits = {{ calls = -1 }} }}', "a.limits.calls"),
        (f'a = {{ sha256 = "{DIGEST}", grants = [] }}\nb = {{ sha256 = "{DIGEST}", grants = [] }}', "same sha256"),
    ],
)
def test_a_file_at_fault_is_refused_by_its_entry(content: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_roster(content.encode())


def test_a_token_put_where_its_digest_belongs_is_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"billing\.sha256") as refused:
        read_roster(b'billing = { sha256 = "kniv_secret", grants = [] }')
    assert "secret" not in str(refused.value)


def test_the_single_token_of_administrators() -> None:
    admin = read_admin_token(b" s3cret \n").by_token(b"s3cret", 0)
    assert admin is not None and admin.grants == EVERY_GRANT
    assert "s3cret" not in repr(read_admin_token(b"s3cret"))


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", "schlüssel".encode(), b"a\0b"])
def test_a_file_that_holds_no_single_token(content: bytes) -> None:
    with pytest.raises(ValueError, match="one token"):
        read_admin_token(content)
