"""Connections that fall silent and come and go by the thousand."""

from __future__ import annotations

from tests.e2e.chaos.callers import Requests, channel_to, fresh
from tests.e2e.chaos.inside import Inside
from tests.e2e.chaos.sockets import Proxy, silent
from tests.e2e.wire import configuration, turn

from kniv.v1 import annotation_service_pb2_grpc as stubs


def test_silent_connections(inside: Inside) -> None:
    number = 5
    with silent(inside.target, number):
        kinds = ["an open stream", "a configured stream", "half a message", "a turn", "a turn of another world"]
        inside.until(lambda: inside.tasks("_handle_exceptions") == number * len(kinds), "all streams")
        inside.until(lambda: not inside.engine.items, "the answers to what was asked")
        fresh(inside.target)
    inside.settle()


def test_a_proxy_that_stops_forwarding(inside: Inside) -> None:
    requests = Requests(configuration(), turn("1", "Hello there."))
    with Proxy(inside.target).running() as proxy, channel_to(proxy.target) as channel:
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(requests))
        assert next(call).HasField("configured")
        inside.gate.shut()
        requests.put(turn("2", "Goodbye then."))
        inside.until(lambda: inside.engine.items, "a row")
        proxy.stop()
        inside.gate.open()
        inside.until(lambda: not inside.engine.items, "the answer")
        fresh(inside.target)
    requests.end()
    inside.settle()
