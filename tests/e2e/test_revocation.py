"""Open streams end when the files say that their callers may do this no more."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.e2e.starting import PATIENCE, Faulty, starting, until
from tests.e2e.wire import Request, Response, completions, configuration, errors, name_of, turn
from tests.server.services.inference.requests import row_request
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.server.security.caller import Grant
from kniv.server.security.roster import new_token
from kniv.v1 import annotation_service_pb2_grpc as stubs


class Callers:
    """A callers' file with a caller whose line changes, and one whose line stays."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "callers.toml"
        self.token, self.line = new_token("usual", [Grant.ANNOTATE, Grant.INFER], None)
        self.other, self.stays = new_token("other", [Grant.ANNOTATE], None)
        self.write(self.line)

    def write(self, line: str) -> None:
        """Put a new file in the old one's place."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{line}\n{self.stays}\n")
        fresh.rename(self.file)


class Stream:
    """A stream that is fed message by message."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self.sent: queue.Queue[Request | None] = queue.Queue()
        self.call = stubs.AnnotationServiceStub(channel).StreamAnnotations(
            iter(self.sent.get, None), metadata=bearing(token), timeout=PATIENCE
        )
        self.sent.put(configuration(options={"tasks": ["TASK_POS"]}))
        assert next(self.call).HasField("configured")

    def answered(self, name: str) -> None:
        """Send a turn and wait until it has been answered."""
        self.sent.put(turn(name, "Hello there."))
        while name not in completions([next(self.call)]):
            pass


def bearing(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def told(error: Any) -> tuple[str, str]:
    info = error_details_pb2.ErrorInfo()
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(info)
    return error.code().name, info.reason


@pytest.fixture
def callers(tmp_path: Path) -> Callers:
    return Callers(tmp_path)


@pytest.fixture
def server(tmp_path: Path, tiny_repository: Path, callers: Callers) -> Any:
    with starting(tmp_path, "--model-repository", str(tiny_repository), "--callers-file", str(callers.file)) as started:
        assert started.process.stdout is not None
        assert started.process.stdout.readline().startswith("ready on")
        yield started


@pytest.mark.parametrize(
    ("becomes", "expected"),
    [
        ("", ("UNAUTHENTICATED", "TOKEN_INVALID")),
        ("infer", ("PERMISSION_DENIED", "GRANT_MISSING")),
    ],
)
def test_a_stream_ends_with_its_caller_s_right_to_it(
    server: Faulty, callers: Callers, becomes: str, expected: tuple[str, str]
) -> None:
    with grpc.insecure_channel(server.target) as channel, grpc.insecure_channel(server.target) as second:
        stream, neighbour = Stream(channel, callers.token), Stream(second, callers.other)
        stream.answered("done")
        server.fault("stall")
        for number in range(20):
            stream.sent.put(turn(str(number), "Hello there. How are you?"))
        stream.sent.put(turn("", "no name"))  # the stream's own order tells that all turns have been read
        found: list[Response] = []
        while not errors(found):
            found.append(next(stream.call))
        callers.write(callers.line.replace('"annotate", "infer"', '"infer"') if becomes else "")
        with pytest.raises(grpc.RpcError) as end:
            found.extend(stream.call)
        stream.sent.put(None)
        assert told(end.value) == expected
        handed_back = {name_of(error.item): error for error in errors(found) if name_of(error.item)}
        assert handed_back.keys() == {str(number) for number in range(20)}
        assert all(error.item_ended for error in handed_back.values())
        code = getattr(grpc.StatusCode, expected[0]).value[0]
        assert {error.error.code for error in handed_back.values()} == {code}
        server.mend("stall")
        neighbour.answered("still here")
        neighbour.sent.put(None)
        assert not list(neighbour.call)
    said = server.log.read_text()
    assert "a stream of /kniv.v1.AnnotationService/StreamAnnotations ends" in said
    assert callers.token not in said


def test_raw_requests_without_an_answer_are_handed_back(server: Faulty, callers: Callers) -> None:
    sent: queue.Queue[service_pb2.ModelInferRequest | None] = queue.Queue()

    def send(name: str) -> None:
        request = row_request([[2, 5, 6, 3]])
        request.id = name
        sent.put(request)

    with grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(iter(sent.get, None), metadata=bearing(callers.token), timeout=PATIENCE)
        send("done")
        assert not next(call).error_message
        server.fault("hang")
        names = [str(number) for number in range(5)]
        for name in names:
            send(name)
        until((server.faults / "hanging").exists, "the run of the first")
        callers.write("")
        handed_back: list[service_pb2.ModelStreamInferResponse] = []
        with pytest.raises(grpc.RpcError) as end:
            handed_back.extend(call)
        server.mend("hang")
        sent.put(None)
    assert told(end.value) == ("UNAUTHENTICATED", "TOKEN_INVALID")
    assert handed_back  # of those that had been read
    assert [response.infer_response.id for response in handed_back] == names[: len(handed_back)]
    assert all(response.error_message == end.value.details() for response in handed_back)


def test_silent_and_raw_streams_end_too(server: Faulty, callers: Callers) -> None:
    with grpc.insecure_channel(server.target) as channel:
        metadata = bearing(callers.token)
        never: queue.Queue[Any] = queue.Queue()
        opened = [
            stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(never.get, None), metadata=metadata),
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(
                iter(never.get, None), metadata=metadata
            ),
        ]
        Stream(channel, callers.token).answered("1")  # by then the others have been let in as well
        callers.write("")
        for call in opened:
            with pytest.raises(grpc.RpcError) as end:
                next(call)
            never.put(None)
            assert told(end.value) == ("UNAUTHENTICATED", "TOKEN_INVALID")
