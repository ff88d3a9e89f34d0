"""Who may call what: tokens, JWTs, and nobody in particular."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from jwt.algorithms import ECAlgorithm
from tests.e2e.conftest import Server, running
from tests.e2e.wire import Request, Response, completions, configuration, errors, turn
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.client import Client, InvalidRequestError
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://issuer.example"


def made(name: str, *grants: str) -> tuple[str, str]:
    """A token and its line, from the command."""
    command = [sys.executable, "-m", "kniv.server", "token", name]
    command += [flag for grant in grants for flag in ("--grant", grant)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr.strip(), done.stdout


def web_token(scope: str = "kniv:annotate", seconds: float = 600, kid: str = "one", key: Any = KEY) -> str:
    claims = {"iss": ISSUER, "aud": "kniv", "sub": "ada", "exp": time.time() + seconds, "scope": scope}
    return jwt.encode(claims, key, "ES256", {"kid": kid})


def jwks(kid: str, key: ec.EllipticCurvePrivateKey) -> str:
    return json.dumps({"keys": [ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid}]})


class Guarded:
    """A server with callers and JWTs."""

    def __init__(self, folder: Path) -> None:
        self.callers, self.keys = folder / "callers.toml", folder / "jwks.json"
        self.reader, line = made("reader", "annotate")
        self.all, lines = made("ops", "annotate", "infer", "admin")
        self.lines = line + lines
        self.restore()
        self.server: Server

    def restore(self) -> None:
        self.callers.write_text(self.lines)
        self.keys.write_text(jwks("one", KEY))

    @property
    def flags(self) -> list[str]:
        files = ["--callers-file", str(self.callers), "--jwt-keys-file", str(self.keys)]
        return [*files, "--jwt-issuer", ISSUER, "--jwt-audience", "kniv", "--jwt-leeway-seconds", "0"]


@pytest.fixture(scope="module")
def started(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    folder = tmp_path_factory.mktemp("guarded_server")
    flags = ["--model-repository", str(tiny_repository), "--model-control-mode", "explicit", "--load-model", "*"]
    with running(folder, *flags, "--log-level", "debug", *guarded.flags) as guarded.server:
        yield guarded


@pytest.fixture
def guarded(started: Guarded) -> Iterator[Guarded]:
    """The server; afterwards its files are as before, and no token is in its log."""
    yield started
    started.restore()
    said = started.server.log.read_text()
    assert started.reader not in said and started.all not in said and "eyJ" not in said


@pytest.fixture
def channel(guarded: Guarded) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(guarded.server.target) as channel:
        yield channel


def outcome(method: Any, request: Any, token: str | None) -> tuple[str, str]:
    """A call's status code and the reason that its ErrorInfo gives."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    try:
        method(request, metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        info = error_details_pb2.ErrorInfo()
        for detail in status_pb2.Status.FromString(details).details:
            detail.Unpack(info)
        assert token is None or token not in error.details()
        return error.code().name, info.reason
    return "OK", ""


ANNOTATE = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="Hello.")])
UNAUTHENTICATED, DENIED = "UNAUTHENTICATED", ("PERMISSION_DENIED", "GRANT_MISSING")


def test_each_method_needs_its_grant(guarded: Guarded, channel: grpc.Channel) -> None:
    annotate = stubs.AnnotationServiceStub(channel).AnnotateText
    triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    index, load = service_pb2.RepositoryIndexRequest(), service_pb2.RepositoryModelLoadRequest(model_name="tiny")
    quieter = service_pb2.LogSettingsRequest()
    quieter.settings["log_verbose_level"].uint32_param = 1
    for token in (guarded.reader, web_token("kniv:annotate")):
        assert outcome(annotate, ANNOTATE, token) == ("OK", "")
        assert outcome(triton.RepositoryIndex, index, token) == DENIED
        assert outcome(triton.RepositoryModelLoad, load, token) == DENIED
        assert outcome(triton.LogSettings, quieter, token) == DENIED
    infers = web_token("kniv:infer")
    assert outcome(annotate, ANNOTATE, infers) == DENIED
    assert outcome(triton.RepositoryIndex, index, infers) == ("OK", "")
    assert outcome(triton.LogSettings, service_pb2.LogSettingsRequest(), infers) == ("OK", "")
    assert outcome(triton.LogSettings, quieter, infers) == DENIED
    for method, request in (
        (annotate, ANNOTATE),
        (triton.RepositoryIndex, index),
        (triton.RepositoryModelLoad, load),
        (triton.LogSettings, quieter),
    ):
        assert outcome(method, request, guarded.all) == ("OK", "")
        assert outcome(method, request, None) == (UNAUTHENTICATED, "TOKEN_MISSING")
        assert outcome(method, request, "nonsense") == (UNAUTHENTICATED, "TOKEN_INVALID")
    assert "/inference.GRPCInferenceService/RepositoryModelLoad by token ops" in guarded.server.log.read_text()


def test_health_and_reflection_are_open(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    assert outcome(health.Check, health_pb2.HealthCheckRequest(), None) == ("OK", "")
    assert outcome(health.Check, health_pb2.HealthCheckRequest(), "nonsense") == ("OK", "")
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    (listed,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert listed.list_services_response.service
    triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    assert outcome(triton.ServerReady, service_pb2.ServerReadyRequest(), None) == ("OK", "")


def test_streams_are_guarded_too(guarded: Guarded, channel: grpc.Channel) -> None:
    stream = stubs.AnnotationServiceStub(channel).StreamAnnotations
    raw = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer
    bearer = (("authorization", f"Bearer {guarded.reader}"),)
    for call, code in (
        (stream(iter([configuration()])), "UNAUTHENTICATED"),
        (raw(iter([service_pb2.ModelInferRequest()])), "UNAUTHENTICATED"),
        (raw(iter([service_pb2.ModelInferRequest()]), metadata=bearer), "PERMISSION_DENIED"),
    ):
        with pytest.raises(grpc.RpcError) as end:
            list(call)
        assert end.value.code().name == code
    found = list(stream(iter([configuration(), turn("1", "Hello.")]), metadata=bearer))
    assert set(completions(found)) == {"1"} and not errors(found)


def test_jwts_at_fault(channel: grpc.Channel) -> None:
    annotate = stubs.AnnotationServiceStub(channel).AnnotateText
    other = ec.generate_private_key(ec.SECP256R1())
    assert outcome(annotate, ANNOTATE, web_token(seconds=-1)) == (UNAUTHENTICATED, "CREDENTIALS_EXPIRED")
    assert outcome(annotate, ANNOTATE, web_token(key=other)) == (UNAUTHENTICATED, "TOKEN_INVALID")
    assert outcome(annotate, ANNOTATE, web_token(kid="two")) == (UNAUTHENTICATED, "TOKEN_INVALID")


def test_callers_and_keys_are_reloaded(guarded: Guarded, channel: grpc.Channel) -> None:
    annotate = stubs.AnnotationServiceStub(channel).AnnotateText
    late, line = made("late", "annotate")
    assert outcome(annotate, ANNOTATE, late) == (UNAUTHENTICATED, "TOKEN_INVALID")
    before = guarded.server.log.read_text().count("--callers-file: ")
    guarded.callers.write_text(line)
    assert outcome(annotate, ANNOTATE, late) == ("OK", "")
    assert outcome(annotate, ANNOTATE, guarded.reader) == (UNAUTHENTICATED, "TOKEN_INVALID")
    guarded.callers.write_text(line[:20])  # as if it were being written
    assert outcome(annotate, ANNOTATE, late) == ("OK", "")
    said = guarded.server.log.read_text().split("--callers-file: ")[before + 1 :]
    assert len(said) == 2 and "read again" in said[0] and "no TOML file" in said[1]

    other = ec.generate_private_key(ec.SECP256R1())
    guarded.keys.write_text(jwks("two", other))
    assert outcome(annotate, ANNOTATE, web_token()) == (UNAUTHENTICATED, "TOKEN_INVALID")
    assert outcome(annotate, ANNOTATE, web_token(kid="two", key=other)) == ("OK", "")


def test_a_stream_ends_with_the_token_that_opened_it(channel: grpc.Channel) -> None:
    sent = queue.Queue[Request | None]()
    bearer = (("authorization", f"Bearer {web_token(seconds=2)}"),)
    call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(sent.get, None), metadata=bearer)
    sent.put(configuration())
    sent.put(turn("1", "Hello."))
    found: list[Response] = []
    with pytest.raises(grpc.RpcError) as end:
        found.extend(call)
    sent.put(None)
    assert set(completions(found)) == {"1"}
    assert end.value.code().name == "UNAVAILABLE"
    assert b"CREDENTIALS_EXPIRED" in dict(end.value.trailing_metadata())["grpc-status-details-bin"]


def test_the_client_sends_its_token_and_none_in_clear_to_strangers(guarded: Guarded) -> None:
    tokens = iter([web_token(), web_token()])
    for token in (guarded.reader, lambda: next(tokens)):
        with Client(guarded.server.target, token=token) as client:
            assert client.annotate("Hello.")
            with client.stream() as stream:
                stream.turn("Hello.")
                stream.close()
                assert list(stream)
    with pytest.raises(InvalidRequestError, match="in clear"):
        Client("kniv.example.org:50051", token=guarded.reader)


def test_the_command_line(guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(guarded.reader + "\n")
    command = [sys.executable, "-m", "kniv.client.cli", "models", "--target", guarded.server.target]
    environment = {"KNIV_TOKEN": guarded.reader}
    for more, extra, status in (([], {}, 1), (["--token-file", str(file)], {}, 0), ([], environment, 0)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=extra)
        assert done.returncode == status, done.stderr


def test_an_admin_token_alone_leaves_the_rest_open(
    tiny_repository: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    flags = ["--model-repository", str(tiny_repository), "--model-control-mode", "explicit", "--load-model", "*"]
    with (
        running(tmp_path, *flags, "--admin-token-file", str(tmp_path / "token"), "--reflection", "false") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        annotate = stubs.AnnotationServiceStub(channel).AnnotateText
        load = service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad
        request = service_pb2.RepositoryModelLoadRequest(model_name="tiny")
        assert outcome(annotate, ANNOTATE, None) == ("OK", "")
        assert outcome(load, request, None) == (UNAUTHENTICATED, "TOKEN_MISSING")
        assert outcome(load, request, "s3cret") == ("OK", "")
        assert outcome(annotate, ANNOTATE, "s3cret") == ("OK", "")
        (tmp_path / "token").write_text("an0ther\n")
        assert outcome(load, request, "s3cret") == (UNAUTHENTICATED, "TOKEN_INVALID")
        assert outcome(load, request, "an0ther") == ("OK", "")
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        with pytest.raises(grpc.RpcError) as closed:
            list(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
        assert closed.value.code().name == "UNIMPLEMENTED"
