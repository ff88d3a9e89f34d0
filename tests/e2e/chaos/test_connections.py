"""Connections that fall silent and come and go by the thousand."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from itertools import cycle

import grpc
from tests.e2e.chaos.callers import Requests, channel_to, fresh, stream, unary
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


def test_a_herd_of_connections(inside: Inside) -> None:
    """As when a server is back that all had lost: a hundred connect at the same moment, and each calls."""
    with ExitStack() as stack:
        channels = [stack.enter_context(channel_to(inside.target)) for _ in range(100)]
        waiting = [(begin, begin(channel)) for channel, begin in zip(channels, cycle((unary, stream)), strict=False)]
        for begin, call in waiting:
            if begin is stream:  # whose status comes after its answers
                list(call)  # type: ignore[call-overload]
        codes = Counter((call.code(), begin) for begin, call in waiting)
    # Calls for which there is no room are told so; streams wait.
    assert {code for code, _ in codes} <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}, codes
    assert codes[grpc.StatusCode.OK, stream] == 50
    inside.settle()
