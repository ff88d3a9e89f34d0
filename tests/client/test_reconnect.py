"""Calls that break, one after the other: the same assertions for both clients."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures

import grpc
import pytest
from tests.client.breaking import UNAVAILABLE, Response

from kniv.client import (
    AsyncClient,
    CallCancelledError,
    Client,
    ItemDone,
    ItemFailed,
    NotFoundError,
    Reconnect,
    SentenceEvent,
    UnavailableError,
)
from kniv.client._exchange import Exchange
from kniv.client._reconnect import Backoff
from kniv.client._requests import stream_configuration, turn
from kniv.v1 import annotation_service_pb2

QUICK = Reconnect(initial_delay_s=0.001, max_delay_s=0.01, patience_s=60)


def breaking(fake, responses):
    """A script that ends every call with UNAVAILABLE after some responses, until none are left to break."""
    left = list(responses)

    def script(requests, context):
        limit = left.pop(0) if left else None
        for number, response in enumerate(fake.answer(requests, context)):
            if number == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
            yield response

    return script


def test_a_stream_goes_on_over_other_calls(run, fake):
    fake.script = breaking(fake, [3, 1, 2, 5])
    losses = []
    policy = Reconnect(initial_delay_s=0.001, max_delay_s=0.01, listener=losses.append)

    async def scenario(client):
        async with client.stream(reconnect=policy) as stream:
            names = [await stream.turn(f"One {number}.\nTwo.") for number in range(20)]
            await stream.close()
            events = [event async for event in stream]
        assert [event.item_id for event in events if isinstance(event, ItemDone)] == names
        keys = [(event.item_id, event.sentence.index) for event in events if isinstance(event, SentenceEvent)]
        assert sorted(keys) == sorted((name, index) for name in names for index in range(2))
        assert len(losses) == 4
        assert losses[0].attempt == 1

    run(scenario)


def test_a_stream_that_was_idle_has_all_its_patience_when_it_goes_on():
    now = [0.0]
    policy = Reconnect(initial_delay_s=1, max_delay_s=1, patience_s=20)
    exchange = Exchange(stream_configuration({}), 1 << 20, policy, Backoff(policy, lambda: now[0], lambda: 1.0))
    exchange.begin()
    exchange.deliver(Response(configured=annotation_service_pb2.StreamConfigured()))
    assert exchange.broke(UNAVAILABLE) is not None
    assert not exchange.try_resume()  # there is nothing to make another call for
    now[0] = 3600.0
    assert exchange.try_offer(turn("a", "Hi.", speaker="", partial=False, revision=0, predicates=()), "sender")
    assert exchange.try_resume()
    for _ in range(15):
        exchange.begin()
        assert exchange.broke(UNAVAILABLE) is not None
        assert exchange.try_resume()
        now[0] += 1
    now[0] += 5
    exchange.begin()
    assert exchange.broke(UNAVAILABLE) is None


def test_without_reconnection_a_break_is_an_error(run, fake):
    fake.script = breaking(fake, [1])

    async def scenario(client):
        async with client.stream(reconnect=None) as stream:
            with pytest.raises(UnavailableError, match="stopping"):
                await stream.turn("One.")
                await anext(stream)

    run(scenario)


def test_patience_has_an_end(run, fake):
    fake.script = breaking(fake, [1] * 1000)

    async def scenario(client):
        async with client.stream(reconnect=Reconnect(0.001, 0.001, patience_s=0.05)) as stream:
            with pytest.raises(UnavailableError, match="stopping"):
                await stream.turn("One.")
                await anext(stream)

    run(scenario)


def test_a_refusal_by_the_next_server_ends_the_stream(run, fake):
    first = breaking(fake, [1])

    def refuse(requests, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        yield

    def scripted(requests, context):
        fake.script = refuse
        return first(requests, context)

    fake.script = scripted

    async def scenario(client):
        async with client.stream(reconnect=QUICK) as stream:
            with pytest.raises(NotFoundError, match="no such model"):
                await stream.turn("One.")
                await anext(stream)

    run(scenario)


def test_an_idle_stream_is_opened_again_only_when_there_is_something_to_say(run, fake):
    fake.script = breaking(fake, [3])

    async def scenario(client):
        async with client.stream(reconnect=QUICK) as stream:
            await stream.turn("One.", turn_id="a")
            assert (await anext(stream)).sentence.text == "One."
            assert isinstance(await anext(stream), ItemDone)
            await stream.turn("Two.", turn_id="b")
            assert (await anext(stream)).item_id == "b"
            await stream.turn("One.", turn_id="a")
            events = [await anext(stream) for _ in range(2)]
            (refused,) = [event for event in events if isinstance(event, ItemFailed)]
            assert (refused.item_id, refused.error.code) == ("a", "ALREADY_EXISTS")

    run(scenario)


def leaving(fake):
    """A script that answers one item and then ends the call with UNAVAILABLE."""

    def script(requests, context):
        for response in fake.answer(requests, context):
            yield response
            if response.HasField("completion"):
                context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    return script


@pytest.fixture(params=["idle", "between two attempts"])
def disconnected(request, fake):
    """Options of a stream that loses its connection with its first turn, and what tells when it has."""
    lost = threading.Event()
    delay = 0.001
    fake.script = leaving(fake)
    if request.param != "idle":
        delay = 300
        fake.script = breaking(fake, [1])
    policy = Reconnect(delay, delay, patience_s=1e9, listener=lambda loss: lost.set())
    return {"reconnect": policy}, lost


def test_closing_the_client_ends_a_stream_that_has_no_connection(fake, disconnected):
    options, lost = disconnected
    with futures.ThreadPoolExecutor(1) as other, Client(fake.target) as client, client.stream(**options) as stream:
        stream.turn("One.")
        assert lost.wait(60)
        waiting = other.submit(list, stream)
        client.close()
        with pytest.raises(CallCancelledError, match="the client was closed"):
            waiting.result(60)
        with pytest.raises(CallCancelledError, match="the client was closed"):
            stream.turn("Two.")


def test_closing_the_asynchronous_client_ends_a_stream_that_has_no_connection(fake, disconnected):
    options, lost = disconnected

    async def scenario():
        async def read():
            return [event async for event in stream]

        async with AsyncClient(fake.target) as client, client.stream(**options) as stream:
            await stream.turn("One.")
            assert await asyncio.to_thread(lost.wait, 60)
            waiting = asyncio.create_task(read())
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(CallCancelledError, match="the client was closed"):
                await waiting
            with pytest.raises(CallCancelledError, match="the client was closed"):
                await stream.turn("Two.")

    asyncio.run(scenario())


def test_a_client_forgets_streams_that_were_left(run):
    async def scenario(client):
        for _ in range(3):
            async with client.stream():
                pass
        assert not client._at_close

    run(scenario)
