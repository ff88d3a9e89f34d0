"""TLS for the listeners, with certificates that are rotated under way."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from kniv.server.security.watched import Watched

log = logging.getLogger(__name__)


class Tls:
    """Certificate and key of the server, and the authorities whose clients it takes.

    Connections that are open stay so when the files change; new ones get what the files say by then.

    Args:
        certificate, key: PEM files: the server's certificate before those of its issuers, and its private key.
        client_ca: PEM file with the authorities whose certificates clients must show; None to ask for none. gRPC
            knows no certificates that a client may show or not.

    Raises:
        ServeError: a file cannot be read, or certificate and key do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        paths = [certificate, key] if client_ca is None else [certificate, key, client_ca]
        setting = "--tls-certificate, --tls-key" + ("" if client_ca is None else ", --tls-client-ca")
        self._files = Watched(setting, paths, read_pair)
        self.asks_clients = client_ca is not None

    def credentials(self) -> grpc.ServerCredentials:
        """For one listener."""
        first = given = self._files.current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            """What new connections get, None if that has not changed; called by gRPC's threads before each."""
            nonlocal given
            current = self._files.current()
            if current is given:
                return None
            given = current
            return current

        return grpc.dynamic_ssl_server_credentials(
            first,
            fetch,  # type: ignore[arg-type]  # None for no change is what gRPC's documentation says
            require_client_authentication=self.asks_clients,
        )


def read_pair(certificate: bytes, key: bytes, client_ca: bytes | None = None) -> grpc.ServerCertificateConfiguration:
    """What the files say, once it is found good: gRPC itself would refuse every connection for what is not.

    Raises:
        ValueError: a file does not hold what it should, or the key belongs to another certificate.
    """
    chain = _certificates(certificate, "certificate")
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError for one that is encrypted
        raise ValueError("the key file holds no unencrypted private key in PEM, or one of an unusual kind") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        public = chain[0].public_key()
    except UnsupportedAlgorithm:
        raise ValueError("the certificate is for a key of an unusual kind; use RSA or P-256") from None
    if private.public_key().public_bytes(*form) != public.public_bytes(*form):
        raise ValueError("the key belongs to another certificate")
    if chain[0].not_valid_after_utc <= datetime.now(UTC):
        log.warning("the TLS certificate has expired on %s", chain[0].not_valid_after_utc.isoformat())
    if client_ca is not None:
        _certificates(client_ca, "client CA")
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)


def _certificates(content: bytes, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError(f"the {what} file holds no certificate in PEM, or one that is broken") from None
