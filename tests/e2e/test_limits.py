"""How much one caller may use, how long streams and connections last, and how often clients may ping."""

from __future__ import annotations

import logging
import queue
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.e2e.conftest import Server, StartServer
from tests.e2e.frames import connected
from tests.e2e.wire import Request, Response, completions, configuration, errors, turn

from kniv.client import Client, ItemDone
from kniv.server.security.caller import Grant
from kniv.server.security.roster import new_token
from kniv.v1 import annotation_service_pb2 as calls
from kniv.v1 import annotation_service_pb2_grpc as stubs

NO_ERROR, ENHANCE_YOUR_CALM = 0, 11  # RFC 9113, 7
TEXT = calls.AnnotateTextRequest(inputs=[calls.TextInput(text="One came. Two left. Three stayed.")])


class Callers:
    """Tokens of two callers; the second has bounds of its own."""

    def __init__(self, folder: Path, own: str) -> None:
        self.usual, first = new_token("usual", [Grant.ANNOTATE], None)
        self.other, second = new_token("other", [Grant.ANNOTATE], None)
        self.file = folder / "callers.toml"
        self.file.write_text(f"{first}\n{second.removesuffix(' }')}, limits = {{ {own} }} }}\n")


class Stream:
    """A stream that is fed message by message."""

    def __init__(self, channel: grpc.Channel, token: str | None = None) -> None:
        self.sent: queue.Queue[Request | None] = queue.Queue()
        metadata = bearing(token)
        self.call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(self.sent.get, None), metadata=metadata)
        self.sent.put(configuration())

    def end(self) -> tuple[list[Response], str, str]:
        """What comes until the server ends the stream, with its status and the reason that it gives."""
        found: list[Response] = []
        with pytest.raises(grpc.RpcError) as end:
            found.extend(self.call)
        self.sent.put(None)
        return found, *told(end.value)[:2]


def bearing(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


def told(error: Any) -> tuple[str, str, float]:
    """Status, ErrorInfo's reason and RetryInfo's delay of an error."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(details).details:
        assert detail.Unpack(info) or detail.Unpack(retry)
    return error.code().name, info.reason, retry.retry_delay.ToNanoseconds() / 1e9


def refusal(channel: grpc.Channel, token: str | None = None) -> tuple[str, float]:
    """Why a call is refused, and when it may come back."""
    with pytest.raises(grpc.RpcError) as refused:
        stubs.AnnotationServiceStub(channel).AnnotateText(TEXT, metadata=bearing(token))
    status, reason, delay = told(refused.value)
    assert status == "RESOURCE_EXHAUSTED"
    return reason, delay


def answered(channel: grpc.Channel, token: str | None = None) -> bool:
    response = stubs.AnnotationServiceStub(channel).AnnotateText(TEXT, metadata=bearing(token), timeout=60)
    return len(response.results[0].annotation.sentences) == 3


@pytest.fixture
def start(tiny_repository: Path, start_server: StartServer) -> Any:
    return lambda *flags: start_server("--model-repository", str(tiny_repository), *flags)


def test_calls_and_streams_under_way(start: Any, tmp_path: Path) -> None:
    callers = Callers(tmp_path, "calls = 2")
    server = start("--callers-file", str(callers.file), "--caller-calls", "1", "--log-level", "info")
    with grpc.insecure_channel(server.target) as channel, grpc.insecure_channel(server.target) as second:
        stream = Stream(channel, callers.usual)
        assert next(stream.call).HasField("configured")
        reason, delay = refusal(second, callers.usual)
        assert reason == "CALLER_CALLS" and delay > 0
        assert Stream(second, callers.usual).end()[1:] == ("RESOURCE_EXHAUSTED", "CALLER_CALLS")

        other = Stream(channel, callers.other)
        assert next(other.call).HasField("configured")
        assert answered(second, callers.other)  # its own bound

        stream.sent.put(None)
        assert not list(stream.call)
        assert answered(second, callers.usual)  # given back
        other.sent.put(None)
        assert not list(other.call)
    # Said once for the call and the stream, and with the caller's name: it might go on trying.
    assert server.log.read_text().count("token usual at 127.0.0.1: a call of") == 1


def test_rows_over_all_calls(start: Any, tmp_path: Path) -> None:
    callers = Callers(tmp_path, "rows = 100")
    server = start("--callers-file", str(callers.file), "--caller-rows", "1")
    with grpc.insecure_channel(server.target) as channel:
        reason, delay = refusal(channel, callers.usual)
        assert reason == "CALLER_ROWS" and delay > 0
        assert answered(channel, callers.other)
        streams = [Stream(channel, callers.usual) for _ in range(4)]
        for stream in streams:
            for number in range(10):
                stream.sent.put(turn(str(number), "Who? Me!"))
            stream.sent.put(None)
        for stream in streams:  # slowed, not refused
            found = list(stream.call)
            assert len(completions(found)) == 10 and not errors(found)


def test_bytes_over_all_calls(start: Any) -> None:
    server = start("--caller-bytes", "1")
    with grpc.insecure_channel(server.target) as channel:
        assert refusal(channel)[0] == "CALLER_BYTES"


@pytest.mark.parametrize("unit", ["message", "byte"])
def test_a_call_over_the_rate_is_refused(start: Any, tmp_path: Path, unit: str) -> None:
    own = {"message": "messages_per_second = 1e6", "byte": "bytes_per_second = 1e9"}[unit]
    callers = Callers(tmp_path, own)
    server = start("--callers-file", str(callers.file), f"--caller-{unit}s-per-second", "0.01")
    with grpc.insecure_channel(server.target) as channel:
        for _ in range(2 if unit == "message" else 1):
            assert answered(channel, callers.usual)
        reason, delay = refusal(channel, callers.usual)
        assert reason == f"CALLER_{unit.upper()}_RATE" and delay > 1
        for _ in range(5):
            assert answered(channel, callers.other)


def test_a_stream_over_the_rate_is_not_read(start: Any) -> None:
    server = start("--caller-messages-per-second", "0.01")
    with grpc.insecure_channel(server.target) as channel:
        stream = Stream(channel)  # takes what the bucket holds, and its first turn brings it into debt
        for number in range(5):
            stream.sent.put(turn(str(number), "Hello."))
        found = [next(stream.call) for _ in range(3)]
        assert set(completions(found)) == {"0"}
        assert refusal(channel)[0] == "CALLER_MESSAGE_RATE"
        server.process.send_signal(signal.SIGTERM)
        rest, status, _ = stream.end()
        assert status == "UNAVAILABLE" and not completions(rest) and not errors(rest)


@pytest.mark.parametrize(("flag", "reason"), [("age", "STREAM_AGE"), ("idle", "STREAM_IDLE")])
def test_a_stream_is_ended_once_what_it_sent_is_answered(start: Any, flag: str, reason: str) -> None:
    server = start(f"--stream-{flag}-seconds", "1")
    with grpc.insecure_channel(server.target) as channel:
        stream = Stream(channel)
        stream.sent.put(turn("1", "One came. Two left."))
        found, *end = stream.end()
        assert end == ["UNAVAILABLE", reason]
        assert set(completions(found)) == {"1"} and not errors(found)
        silent = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(queue.Queue[Request]().get, None))
        with pytest.raises(grpc.RpcError) as end_of_silence:
            next(silent)
        assert told(end_of_silence.value)[:2] == ("UNAVAILABLE", reason)
        assert answered(channel)


def test_the_clients_stream_goes_on_over_many_short_ones(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kniv.client")
    server = start("--stream-age-seconds", "0.1")
    with Client(server.target) as client, client.stream() as stream:
        ended = []
        for number in range(100):
            stream.turn("Hello there.", turn_id=str(number))
            ended.append(next(event.item_id for event in stream if isinstance(event, ItemDone)))
        stream.close()
        assert not [event for event in stream if isinstance(event, ItemDone)]
    assert ended == [str(number) for number in range(100)]
    assert "as old as streams may get" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]  # as it is meant to be


def test_a_client_that_does_not_read_is_ended_too(start: Any) -> None:
    server = start("--stream-idle-seconds", "0.5", "--drain-seconds", "0.5", "--caller-calls", "1")
    with grpc.insecure_channel(server.target) as channel, grpc.insecure_channel(server.target) as second:
        stream = Stream(channel)
        for number in range(1000):
            stream.sent.put(turn(str(number), "One came. Two left. Three stayed. Four sang."))
        assert next(stream.call).HasField("configured")
        assert refusal(second)[0] == "CALLER_CALLS"
        while not let_in(second):  # no room until the stream is over
            pass
        assert stream.end()[1:] == ("UNAVAILABLE", "STREAM_IDLE")


def let_in(channel: grpc.Channel) -> bool:
    try:
        return answered(channel)
    except grpc.RpcError as error:
        assert told(error)[1] == "CALLER_CALLS"
        return False


@pytest.fixture
def short_lived(start: Any) -> Iterator[Server]:
    yield start("--connection-age-seconds", "0.5")


def test_old_connections_are_said_goodbye_to_and_calls_go_on(short_lived: Server) -> None:
    with connected(short_lived.target) as connection:
        assert connection.goaway().code == NO_ERROR
    with grpc.insecure_channel(short_lived.target) as channel:
        stream = Stream(channel)
        assert next(stream.call).HasField("configured")
        with connected(short_lived.target) as connection:  # longer than the stream's own may last
            connection.goaway()
        stream.sent.put(turn("1", "Still here."))
        stream.sent.put(None)
        assert set(completions(stream.call)) == {"1"}
        assert answered(channel)


def test_idle_connections_are_said_goodbye_to(start: Any) -> None:
    with connected(start("--connection-idle-seconds", "0.5").target) as connection:
        assert connection.goaway().words == "connection idle"


def test_a_client_that_pings_too_often_is_sent_away(start: Any) -> None:
    server = start()
    with connected(server.target) as connection:
        with suppress(BrokenPipeError):  # it may be gone before the last of them
            for _ in range(10):
                connection.ping()
        end = connection.goaway()
        assert (end.code, end.words) == (ENHANCE_YOUR_CALM, "too_many_pings")
    with grpc.insecure_channel(server.target) as channel:
        assert answered(channel)
