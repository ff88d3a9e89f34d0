"""Tokens and TLS, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from kniv.client import AsyncClient, Client, InvalidRequestError, tls_credentials
from kniv.client import cli as command

HERE = ["localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "dns:///localhost:1", "ipv4:127.0.0.1:1", "unix:/tmp/x"]
ELSEWHERE = ["kniv:1", "10.0.0.1:1", "[2001:db8::1]:1", "dns:///kniv:1", "localhost.example.org:1", "ipv4:10.0.0.1:1"]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("target", HERE)
def test_a_token_may_stay_on_this_machine_in_clear(kind: type[Client], target: str) -> None:
    kind(target, token="secret")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_token_leaves_it_with_tls_alone(kind: type[Client], target: str) -> None:
    with pytest.raises(InvalidRequestError, match="in clear") as refused:
        kind(target, token="secret")
    assert "secret" not in str(refused.value)
    kind(target, token="secret", credentials=tls_credentials())


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="belong together"):
        tls_credentials(certificate_file=tmp_path / "certificate.pem")
    with pytest.raises(FileNotFoundError):
        tls_credentials(ca_file=tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ca", "nowhere.pem"], "nowhere.pem: No such file"),
        (["--token-file", "nowhere"], "nowhere: No such file"),
        (["--certificate", "nowhere.pem"], "belong together"),
        (["--target", "kniv:1"], "in clear"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_options(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KNIV_TOKEN", "secret")
    assert command.main(["models", *options]) == 2
    assert said in capsys.readouterr().err
