"""Streams whose ends do not keep up with each other."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kniv.client import (
    AsyncClient,
    CallCancelledError,
    Client,
    DeadlineExceededError,
    ItemDone,
    ResourceExhaustedError,
    StreamClosedError,
    UnreadResultsError,
)

LONG = "w" * 4000  # a few of these fill what a connection takes without being read


def done_ids(events):
    return [event.item_id for event in events if isinstance(event, ItemDone)]


def test_everything_may_be_sent_before_anything_is_read(run):
    async def scenario(client):
        async with client.stream() as stream:
            names = [await stream.turn(f"Turn {number}.") for number in range(1000)]
            await stream.close()
            assert done_ids([event async for event in stream]) == names

    run(scenario)


def test_who_never_reads_gets_an_error_and_may_go_on(run):
    async def scenario(client):
        async with client.stream(max_unread_bytes=1) as stream:
            with pytest.raises(UnreadResultsError, match="more than 1 bytes of results are unread"):
                for number in itertools.count():
                    await stream.turn(LONG, turn_id=str(number))
            await stream.close()
            assert done_ids([event async for event in stream]) == list(map(str, range(number)))

    run(scenario)


def test_cancelling_never_waits(run):
    async def scenario(client):
        async with client.stream(max_unread_bytes=1) as stream:
            with pytest.raises(UnreadResultsError):
                for number in itertools.count():
                    await stream.turn(LONG, turn_id=str(number))
            await stream.cancel_turn("another")
            await stream.close()
            assert done_ids([event async for event in stream])[-1] == "another"

    run(scenario)


def test_a_document_that_nobody_reads_about_is_cancelled(run, fake):
    async def scenario(client):
        async with client.stream(max_unread_bytes=1) as stream:
            with pytest.raises(UnreadResultsError):
                while True:
                    await stream.document(f"{LONG}\n" * 50, "d")
            await stream.close()
            assert [event async for event in stream][-1].item_id == "d"

    run(scenario)


def test_a_slow_reading_thread_holds_the_sending_one_up(fake):
    with Client(fake.target) as client, client.stream(max_unread_bytes=1) as stream, ThreadPoolExecutor() as pool:
        stream.turn("First.", turn_id="first")
        next(stream)  # from now on this is the thread that reads

        def send():
            names = [stream.turn(LONG, turn_id=str(number)) for number in range(500)]
            stream.close()
            return names

        sending = pool.submit(send)
        assert done_ids(stream) == ["first", *sending.result()]


def test_a_slow_reading_task_holds_the_sending_one_up(fake):
    async def scenario():
        async with AsyncClient(fake.target) as client, client.stream(max_unread_bytes=1) as stream:
            await stream.turn("First.", turn_id="first")
            await anext(stream)

            async def send():
                names = [await stream.turn(LONG, turn_id=str(number)) for number in range(500)]
                await stream.close()
                return names

            sending = asyncio.create_task(send())
            assert done_ids([event async for event in stream]) == ["first", *await sending]

    asyncio.run(scenario())


def deaf(fake):
    """A script that reads the configuration and nothing more."""

    def script(requests, context):
        yield next(fake.answer(requests, context))
        fake.release.wait()

    return script


def test_leaving_frees_a_thread_that_waits_for_a_deaf_server(fake):
    fake.script = deaf(fake)
    started = threading.Event()
    with Client(fake.target) as client, ThreadPoolExecutor() as pool:
        with client.stream() as stream:

            def send():
                while True:
                    stream.turn(LONG)
                    started.set()

            sending = pool.submit(send)
            assert started.wait(timeout=60)
        with pytest.raises(StreamClosedError):
            sending.result()


def test_leaving_frees_a_task_that_waits_for_a_deaf_server(fake):
    fake.script = deaf(fake)

    async def scenario():
        async with AsyncClient(fake.target) as client:
            async with client.stream() as stream:
                started = asyncio.Event()

                async def send():
                    while True:
                        await stream.turn(LONG)
                        started.set()
                        await asyncio.sleep(0)

                sending = asyncio.create_task(send())
                await started.wait()
            with pytest.raises(StreamClosedError):
                await sending

    asyncio.run(scenario())


def hasty(refuse, configured):
    """A script that ends while the client writes."""

    def script(requests, context):
        for number, request in enumerate(requests):
            if request.HasField("configuration"):
                yield configured
            elif number == 20:
                refuse(context)
                return

    return script


def test_the_servers_reason_is_known_even_if_the_call_ends_during_a_write(run, fake, configured):
    fake.script = hasty(lambda context: context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full"), configured)

    async def scenario(client):
        for _ in range(20):
            async with client.stream() as stream:
                with pytest.raises(ResourceExhaustedError, match="queue is full"):
                    while True:
                        await stream.turn(LONG)

    run(scenario)


def test_a_server_may_end_well_during_a_write(run, fake, configured):
    fake.script = hasty(lambda context: None, configured)

    async def scenario(client):
        for _ in range(20):
            async with client.stream() as stream:
                with pytest.raises(StreamClosedError, match="the server has ended the stream"):
                    while True:
                        await stream.turn(LONG)

    run(scenario)


def test_a_stream_has_a_deadline_if_asked_for(run, fake):
    fake.script = deaf(fake)

    async def scenario(client):
        async with client.stream(timeout=1) as stream:
            with pytest.raises(DeadlineExceededError):
                while True:
                    await stream.turn(LONG)

    run(scenario)


def test_closing_the_client_ends_its_streams(run, fake):
    fake.script = deaf(fake)

    async def scenario(client):
        async with client.stream() as stream:
            await client.close()
            with pytest.raises(CallCancelledError):
                await anext(stream)

    run(scenario)


def test_cancelling_who_waits_leaves_the_stream_intact(fake):
    async def scenario():
        async with AsyncClient(fake.target) as client, client.stream() as stream:
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await stream.turn("Still here.")
            assert (await anext(stream)).sentence.text == "Still here."

    asyncio.run(scenario())


def test_cancelling_a_task_that_sends_a_document_cancels_the_document(fake):
    async def scenario():
        async with AsyncClient(fake.target) as client, client.stream() as stream:
            asked = asyncio.Event()

            async def content():
                yield "Begun"
                asked.set()
                await asyncio.Event().wait()

            sending = asyncio.create_task(stream.document(content(), "d"))
            await asked.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await stream.close()
            assert done_ids([event async for event in stream]) == ["d"]

    asyncio.run(scenario())


def test_documents_may_come_from_asynchronous_iterables(fake):
    async def content():
        for piece in ["One.\n", b"Two."]:
            yield piece

    async def scenario():
        async with AsyncClient(fake.target) as client, client.stream() as stream:
            await stream.document(content(), "d")
            await stream.close()
            first, second, _ = [event async for event in stream]
            assert (first.sentence.text, second.sentence.text) == ("One.", "Two.")

    asyncio.run(scenario())


def test_no_thread_outlives_its_stream(fake):
    before = threading.active_count()
    with Client(fake.target) as client:
        with client.stream() as stream:
            stream.turn("Hello.")
        names = [thread.name for thread in threading.enumerate()]
    assert "kniv-stream" not in names, (before, names)
