from __future__ import annotations

import base64

import grpc
import pytest
from tests.server.security.certificates import Authority

from kniv.server.security.tls import read_pair

P_256 = bytes.fromhex("2a8648ce3d030107")  # the curve's object identifier, in DER


def of_no_curve(pem: bytes) -> bytes:
    """A certificate or key in PEM, made one of a curve that nobody knows."""
    first, *content, last = pem.strip().splitlines()
    der = base64.b64decode(b"".join(content))
    assert P_256 in der
    return b"\n".join([first, base64.b64encode(der.replace(P_256, P_256[:-1] + b"\x63")), last])


def test_a_pair_that_fits() -> None:
    authority = Authority("Kniv Test CA")
    assert isinstance(read_pair(*authority.issue("a"), authority.certificate), grpc.ServerCertificateConfiguration)


# Whatever else a reader raised would end every connection from the file's change on.
@pytest.mark.parametrize(
    ("damaged", "said"),
    [(0, "certificate is for a key of an unusual kind"), (1, "key file holds no unencrypted private key")],
)
@pytest.mark.parametrize("damage", [of_no_curve, lambda pem: pem[: len(pem) // 2], lambda pem: b""])
def test_what_is_no_pair_is_a_value_error(damaged: int, said: str, damage: object) -> None:
    pair = list(Authority("Kniv Test CA").issue("a"))
    pair[damaged] = damage(pair[damaged])  # type: ignore[operator]
    with pytest.raises(ValueError, match=said if damage is of_no_curve or damaged else "no certificate in PEM"):
        read_pair(*pair)
