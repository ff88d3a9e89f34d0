"""Connections whose other end is gone without a word, for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.e2e.chaos.callers import ONE_ROW, TEXT, Requests, channel_to, fresh
from tests.e2e.chaos.inside import Inside
from tests.e2e.chaos.sockets import Proxy
from tests.e2e.wire import Request, completions, configuration, turn

from kniv.server import front
from kniv.v1 import annotation_service_pb2_grpc as stubs


@pytest.fixture
def impatient(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    """A server that soon asks a silent client whether it is still there."""
    monkeypatch.setattr(front, "_KEEPALIVE_SECONDS", 0.5)
    monkeypatch.setattr(front, "_KEEPALIVE_TIMEOUT", 0.5)
    inside = Inside(tiny_repository, parallel_runs=1)
    with inside.running():
        fresh(inside.target)
        inside.rest()
        yield inside


@contextmanager
def cut_off(inside: Inside, *more: Request) -> Iterator[None]:
    """A stream behind a proxy that has stopped forwarding, its connection open on both sides."""
    requests = Requests(configuration(options=ONE_ROW), *more)
    # The proxy hangs up before the channel is closed: gRPC would wait for a write that nobody takes.
    with ExitStack() as channels, Proxy(inside.target).running() as proxy:
        channel = channels.enter_context(channel_to(proxy.target))
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(requests))
        assert next(call).HasField("configured")
        proxy.stop()
        yield
    requests.end()


def test_an_idle_stream_is_given_up(impatient: Inside) -> None:
    with cut_off(impatient):
        impatient.settle()


def test_a_stream_with_answers_on_their_way_is_given_up(impatient: Inside) -> None:
    with cut_off(impatient, *(turn(str(number), TEXT) for number in range(2000))):
        impatient.settle()


def test_a_quiet_client_that_is_there_is_kept(impatient: Inside) -> None:
    requests = Requests(configuration(options=ONE_ROW))
    with channel_to(impatient.target) as quiet:
        call = stubs.AnnotationServiceStub(quiet).StreamAnnotations(iter(requests))
        assert next(call).HasField("configured")
        for _ in range(2):  # longer than one that is gone would be kept
            with cut_off(impatient):
                impatient.until(lambda: impatient.tasks("_schedule_rpc_coro") == 1, "one stream alone")
        requests.put(turn("1", TEXT))
        requests.end()
        assert completions(call)["1"].sentence_count == 1
    impatient.settle()
