"""What callers send is nowhere in the log, whatever happens to it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tests.e2e.conftest import StartServer
from tests.e2e.wire import chunk, completions, configuration, errors, turn
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

CANARY = "canary"  # in any case
TEXT = "The canary sang of Canary Wharf."


def exercise(target: str) -> None:
    """Success, and every kind of failure that a caller can bring about."""
    with grpc.insecure_channel(target) as channel:
        stub, triton = stubs.AnnotationServiceStub(channel), service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = list(
            stub.StreamAnnotations(
                iter(
                    [
                        configuration(),
                        turn(CANARY, TEXT, speaker=CANARY),
                        turn(CANARY, TEXT),  # the name is taken
                        turn("2", TEXT, predicates=[{"start": 900, "end": 901}]),
                        chunk("canary document", b"canary \xff\xfe canary", last=True),
                        chunk("", b"canary"),
                        calls.StreamAnnotationsRequest(
                            cancellation=calls.Cancellation(item=calls.ItemReference(turn_id="canary unknown"))
                        ),
                    ]
                )
            )
        )
        assert completions(found).keys() >= {CANARY} and len(errors(found)) >= 4
        inputs = [calls.TextInput(text=TEXT, previous_text=TEXT)]
        assert stub.AnnotateText(calls.AnnotateTextRequest(inputs=inputs, request_id=CANARY)).results
        bearer = (("authorization", "Bearer canary"),)
        for method, request, metadata in (
            (stub.AnnotateText, calls.AnnotateTextRequest(options=calls.AnnotationOptions(model=CANARY)), ()),
            (stub.GetModel, calls.GetModelRequest(name=CANARY), ()),
            (stub.AnnotateText, calls.AnnotateTextRequest(inputs=inputs), bearer),
            (triton.ModelInfer, service_pb2.ModelInferRequest(model_name="tiny", id=CANARY), ()),
            (triton.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="tiny"), bearer),
        ):
            with pytest.raises(grpc.RpcError):
                method(request, metadata=metadata)
        with pytest.raises(grpc.RpcError):
            stub.AnnotateText(calls.AnnotateTextRequest(inputs=inputs * 500), timeout=0.01)
        raw = channel.unary_unary("/kniv.v1.AnnotationService/AnnotateText")
        with pytest.raises(grpc.RpcError):
            raw(b"\xff canary canary")
        left = stub.StreamAnnotations(iter([configuration(), *(turn(f"canary {n}", TEXT) for n in range(50))]))
        next(left)
        left.cancel()


def test_nothing_of_what_is_sent_is_logged(tiny_repository: Path, tmp_path: Path, start_server: StartServer) -> None:
    (tmp_path / "admin").write_text("s3cret")
    flags = ["--log-level", "debug", "--admin-token-file", str(tmp_path / "admin")]
    server = start_server("--model-repository", str(tiny_repository), *flags)
    exercise(server.target)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    said = server.log.read_text()
    assert "stopped" in said
    assert CANARY not in said.casefold()


_FAULTY = """
from kniv.server.pipeline.annotate import Annotator
from kniv.server.cli import app

async def annotate(self, sentence, index, ask):
    raise KeyError(sentence.text)

Annotator.annotate = annotate
app()
"""


@contextmanager
def faulty(folder: Path, repository: Path, *flags: str) -> Iterator[tuple[str, Path]]:
    """The real server, every sentence of which meets a fault that quotes it."""
    command = [sys.executable, "-c", _FAULTY, "serve", "--port", "0", "--model-repository", str(repository), *flags]
    log = folder / "faulty.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            ready = re.fullmatch(r"ready on (\S+)\n", process.stdout.readline())
            assert ready, log.read_text()
            yield ready[1], log
        finally:
            process.terminate()


@pytest.mark.parametrize("shown", [False, True])
def test_faults_that_quote_a_text_are_logged_without_it(tiny_repository: Path, tmp_path: Path, shown: bool) -> None:
    flags = ["--log-level", "debug", "--log-texts", str(shown).lower()]
    with faulty(tmp_path, tiny_repository, *flags) as (target, log), grpc.insecure_channel(target) as channel:
        stub = stubs.AnnotationServiceStub(channel)
        (failure,) = errors(stub.StreamAnnotations(iter([configuration(), turn("1", TEXT)])))
        response = stub.AnnotateText(calls.AnnotateTextRequest(inputs=[calls.TextInput(text=TEXT)]))
        for error in (failure.error, response.results[0].error):
            assert grpc.StatusCode.INTERNAL.value[0] == error.code
            assert CANARY not in error.message.casefold()
    said = log.read_text()
    assert said.count("KeyError") >= 2 and "in annotate" in said
    assert (CANARY in said.casefold()) is shown
