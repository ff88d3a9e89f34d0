"""TLS and mutual TLS, with certificates that are rotated while streams are open."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tests.e2e.conftest import Server, StartServer
from tests.e2e.wire import Request, completions, configuration, turn
from tests.server.security.certificates import Authority

from kniv.client import AsyncClient, Client, PermissionDeniedError, UnavailableError, tls_credentials
from kniv.v1 import annotation_service_pb2_grpc as stubs


class Files:
    """A server's certificate, key and authority, and what a client of it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate, self.key, self.ca = folder / "server.pem", folder / "server.key", folder / "ca.pem"
        self.authority = self.rotate()

    @property
    def flags(self) -> list[str]:
        return ["--tls-certificate", str(self.certificate), "--tls-key", str(self.key)]

    def rotate(self) -> Authority:
        """A certificate of a new authority takes the place of the one before."""
        authority = Authority("Kniv Test CA")
        certificate, key = authority.issue("localhost")
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)
        self.ca.write_bytes(authority.certificate)
        return authority

    def client(self, name: str, *alternative: str) -> dict[str, Path]:
        """Options of a client with a certificate."""
        certificate, key = self.authority.issue(name, *alternative)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate)
        paths[1].write_bytes(key)
        return {"certificate_file": paths[0], "key_file": paths[1]}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def target_of(server: Server) -> str:
    return f"localhost:{server.target.rpartition(':')[2]}"


def trusting(authority: Authority) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.certificate)


def answers(server: Server, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a client of its own, with a connection of its own, is answered."""
    with Client(target_of(server), credentials=credentials) as client:
        try:
            return bool(client.annotate("Hello there.", timeout=30))
        except UnavailableError:
            return False


def test_clients_with_tls_are_served_and_others_are_not(
    files: Files, tiny_repository: Path, start_server: StartServer
) -> None:
    server = start_server("--model-repository", str(tiny_repository), *files.flags)
    assert answers(server, tls_credentials(ca_file=files.ca))
    assert not answers(server, None)
    assert not answers(server, trusting(Authority("Somebody Else")))


def test_mutual_tls_knows_callers_by_their_certificates(
    files: Files, tiny_repository: Path, start_server: StartServer
) -> None:
    (files.folder / "callers.toml").write_text(
        'raw = { certificate = "spiffe://example.org/raw", grants = ["infer"] }\n'
    )
    server = start_server(
        "--model-repository",
        str(tiny_repository),
        *files.flags,
        *("--tls-client-ca", str(files.ca)),
        *("--callers-file", str(files.folder / "callers.toml")),
        *("--log-level", "info"),
    )
    ada = files.client("ada")
    assert answers(server, tls_credentials(ca_file=files.ca, **ada))
    assert not answers(server, tls_credentials(ca_file=files.ca))
    stranger = Authority("Kniv Test CA").issue("ada")
    assert not answers(server, grpc.ssl_channel_credentials(files.ca.read_bytes(), stranger[1], stranger[0]))

    raw = tls_credentials(ca_file=files.ca, **files.client("raw", "spiffe://example.org/raw"))
    with Client(target_of(server), credentials=raw) as client, pytest.raises(PermissionDeniedError, match="'annotate'"):
        client.annotate("Hello.")
    assert "certificate spiffe://example.org/raw" in server.log.read_text()

    command = [sys.executable, "-m", "kniv.client.cli", "models", "--target", target_of(server), "--ca", str(files.ca)]
    shown = ["--certificate", str(ada["certificate_file"]), "--key", str(ada["key_file"])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KNIV_")}
    for more, status in ((shown, 0), ([], 1)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, "tiny" in done.stdout) == (status, status == 0), done.stderr


def test_the_client_for_asyncio(files: Files, tiny_repository: Path, start_server: StartServer) -> None:
    import asyncio

    server = start_server("--model-repository", str(tiny_repository), *files.flags)

    async def main() -> int:
        async with AsyncClient(target_of(server), credentials=tls_credentials(ca_file=files.ca)) as client:
            return len(await client.annotate("Hello there."))

    assert asyncio.run(main()) == 1


def test_certificates_are_rotated_without_dropping_a_connection(
    files: Files, tiny_repository: Path, start_server: StartServer
) -> None:
    server = start_server("--model-repository", str(tiny_repository), *files.flags)
    first, sent = files.authority, queue.Queue[Request | None]()
    with grpc.secure_channel(target_of(server), trusting(first)) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent.get, None))
        sent.put(configuration())
        assert next(call).HasField("configured")

        second = files.rotate()
        assert answers(server, trusting(second))
        assert not answers(server, trusting(first))

        half = Authority("Kniv Test CA")
        certificate, key = half.issue("localhost")
        files.key.write_bytes(key)
        for _ in range(3):
            assert answers(server, trusting(second))
        files.certificate.write_bytes(certificate[: len(certificate) // 2])
        assert answers(server, trusting(second))
        files.certificate.write_bytes(certificate)
        assert answers(server, trusting(half))
        assert not answers(server, trusting(second))

        sent.put(turn("1", "Still here."))
        sent.put(None)
        assert set(completions(call)) == {"1"}
    said = [line for line in server.log.read_text().splitlines() if "WARNING" in line]
    assert len(said) == 2 and "belongs to another certificate" in said[0] and "no certificate in PEM" in said[1]


def test_the_clients_authority_is_rotated_without_a_restart(
    files: Files, tiny_repository: Path, start_server: StartServer
) -> None:
    server = start_server("--model-repository", str(tiny_repository), *files.flags, "--tls-client-ca", str(files.ca))
    before = tls_credentials(ca_file=files.ca, **files.client("before"))
    assert answers(server, before)
    files.authority = files.rotate()
    after = files.client("after")
    assert answers(server, tls_credentials(ca_file=files.ca, **after))
    certificate, key = (files.folder / name for name in ("before.pem", "before.key"))
    assert not answers(server, tls_credentials(ca_file=files.ca, certificate_file=certificate, key_file=key))


def mismatched(files: Files) -> None:
    files.key.write_bytes(Authority("Other").issue("localhost")[1])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda files: files.key.unlink(), "server.key cannot be read"),
        (lambda files: files.certificate.write_text("nonsense"), "no certificate in PEM"),
        (lambda files: files.key.write_text("nonsense"), "no unencrypted private key"),
        (mismatched, "the key belongs to another certificate"),
    ],
)
def test_files_at_fault_are_refused_at_the_start(
    files: Files, tiny_repository: Path, damage: Callable[[Files], None], said: str
) -> None:
    damage(files)
    log = refused("--model-repository", str(tiny_repository), *files.flags)
    assert said in log
    assert "loading" not in log  # it is said at once, not when all models are there


def test_a_certificate_needs_its_key(files: Files, tiny_repository: Path) -> None:
    assert "--tls-key" in refused("--model-repository", str(tiny_repository), *files.flags[:2])


def refused(*flags: str) -> str:
    """What a server that does not start says."""
    command = [sys.executable, "-m", "kniv.server", "serve", "--port", "0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_openness_beyond_this_machine_is_said(tiny_repository: Path, start_server: StartServer) -> None:
    metrics = ("--metrics-port", "0", "--metrics-host", "0.0.0.0")
    texts = ("--otlp-endpoint", "http://collector.invalid:4317", "--trace-texts", "true")
    server = start_server("--model-repository", str(tiny_repository), "--host", "0.0.0.0", *metrics, *texts)
    said = server.log.read_text()
    assert "whoever reaches this address may read the metrics" in said
    assert "callers' texts are sent there in clear" in said
    assert "serving in clear beyond this machine" in said
    assert "may admin, annotate, infer without showing who it is" in said


@pytest.fixture
def quiet(files: Files, tiny_repository: Path, start_server: StartServer) -> Iterator[Server]:
    yield start_server(
        "--model-repository", str(tiny_repository), "--host", "0.0.0.0", *files.flags, "--tls-client-ca", str(files.ca)
    )


def test_mutual_tls_beyond_this_machine_needs_no_warning(quiet: Server) -> None:
    assert "WARNING" not in quiet.log.read_text()
