"""Streams: the same assertions for both clients."""

from __future__ import annotations

import grpc
import pytest

from kniv.client import (
    InvalidRequestError,
    Item,
    ItemDone,
    ItemFailed,
    ModelReference,
    NotFoundError,
    Outcome,
    SentenceEvent,
    ServerError,
    StreamClosedError,
    Task,
)
from kniv.v1 import annotation_service_pb2, status_pb2

Response = annotation_service_pb2.StreamAnnotationsResponse


async def events(stream):
    return [event async for event in stream]


def test_turns_come_back_as_events(run):
    async def scenario(client):
        async with client.stream() as stream:
            assert await stream.turn("Hello.\nWho is there?", speaker="ada", turn_id="a") == "a"
            await stream.turn("bad", turn_id="b", revision=2)
            await stream.close()
            first, second, done, failed = await events(stream)
        assert first.sentence.text == "Hello."
        assert (second.item, second.item_id, second.speaker) == (Item("turn", "a"), "a", "ada")
        assert isinstance(done, ItemDone)
        assert (done.outcome, done.sentence_count) == (Outcome.COMPLETE, 2)
        assert isinstance(failed, ItemFailed)
        assert (failed.item, failed.item_id) == (Item("turn", "b", 2), "b")
        assert isinstance(failed.error, InvalidRequestError)

    run(scenario)


def test_entering_tells_what_the_stream_runs_on(run):
    async def scenario(client):
        async with client.stream() as stream:
            assert stream.model == ModelReference("fake", 3, "int8")
            assert stream.tasks == (Task.POS,)  # and one from the future, left out

    run(scenario)


def test_configuration_and_turn_reach_the_server(run, fake):
    async def scenario(client):
        async with client.stream(in_order=True, context_turns=0, tasks=["srl"], priority=2) as stream:
            name = await stream.turn("He said so.", speaker="bob", partial=True, revision=4, predicates=[(3, 7)])
            await stream.close()
            await events(stream)
        configuration, turn = fake.received[0].configuration, fake.received[1].turn
        assert configuration.ordering == annotation_service_pb2.ORDERING_IN_ORDER
        assert configuration.HasField("context_turns")
        assert configuration.options.priority == 2
        assert (turn.turn_id, turn.speaker, turn.is_partial, turn.revision) == (name, "bob", True, 4)
        assert turn.predicates[0].end == 7

    run(scenario)


def test_names_are_made_where_none_are_given(run):
    async def scenario(client):
        async with client.stream() as stream:
            names = {await stream.turn("One."), await stream.turn("Two."), await stream.document("Three.")}
            assert len(names) == 3
            await stream.close()
            done = {event.item_id for event in await events(stream) if isinstance(event, ItemDone)}
        assert done == names

    run(scenario)


def test_items_can_be_cancelled(run):
    async def scenario(client):
        async with client.stream() as stream:
            await stream.cancel_turn("a", revision=3)
            await stream.cancel_document("d")
            await stream.close()
            assert [(event.item, event.outcome) for event in await events(stream)] == [
                (Item("turn", "a", 3), Outcome.CANCELLED),
                (Item("document", "d"), Outcome.CANCELLED),
            ]

    run(scenario)


def test_a_conversation_may_be_read_turn_by_turn(run):
    async def scenario(client):
        async with client.stream() as stream:
            for text in ["Hello.", "Who is there?", "Me."]:
                name = await stream.turn(text)
                assert (await anext(stream)).sentence.text == text
                assert (await anext(stream)).item_id == name

    run(scenario)


def test_an_error_in_the_middle_comes_after_what_was_before_it(run, fake):
    def fail(requests, context):
        for count, response in enumerate(fake.answer(requests, context)):
            yield response
            if count == 2:
                context.abort(grpc.StatusCode.INTERNAL, "fell over")

    fake.script = fail

    async def scenario(client):
        async with client.stream() as stream:
            await stream.turn("One.")
            assert isinstance(await anext(stream), SentenceEvent)
            assert isinstance(await anext(stream), ItemDone)
            for _ in range(2):  # and again, for whoever asks again
                with pytest.raises(ServerError, match="fell over"):
                    await anext(stream)
            with pytest.raises(ServerError, match="fell over"):
                await stream.turn("Two.")
            with pytest.raises(ServerError, match="fell over"):
                await stream.cancel_turn("a")

    run(scenario)


def test_a_refused_configuration_is_an_error_at_the_door(run, fake):
    def refuse(requests, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "model: no model 'm'")
        yield

    fake.script = refuse

    async def scenario(client):
        with pytest.raises(NotFoundError, match="no model 'm'"):
            async with client.stream(model="m"):
                pytest.fail("entered")

    run(scenario)


def test_a_server_that_ends_early_ends_the_iteration(run, fake):
    def end(requests, context):
        answers = fake.answer(requests, context)
        yield next(answers)
        yield next(answers)

    fake.script = end

    async def scenario(client):
        async with client.stream() as stream:
            await stream.turn("One.\nTwo.")
            (event,) = await events(stream)
            assert event.sentence.text == "One."
            with pytest.raises(StreamClosedError, match="the server has ended the stream"):
                await stream.turn("Three.")

    run(scenario)


def test_a_server_that_says_nothing_at_all(run, fake):
    fake.script = lambda requests, context: iter(())

    async def scenario(client):
        with pytest.raises(ServerError, match="before it answered the configuration"):
            async with client.stream():
                pytest.fail("entered")

    run(scenario)


def test_messages_from_the_future_are_passed_over(run, fake):
    def futuristic(requests, context):
        answers = fake.answer(requests, context)
        yield next(answers)
        yield Response.FromString(b"\xfa\x3e\x00")  # a field that no one knows yet
        yield Response(completion=annotation_service_pb2.ItemCompletion(outcome=99))
        error = annotation_service_pb2.ItemError(error=status_pb2.Status(code=3, message="refused"))
        yield Response(error=error)

    fake.script = futuristic

    async def scenario(client):
        async with client.stream() as stream:
            done, refused = await events(stream)
        assert done.outcome is Outcome.UNKNOWN
        assert refused.item is None
        assert refused.item_id is None

    run(scenario)


def test_nothing_can_be_sent_after_closing(run):
    async def scenario(client):
        async with client.stream() as stream:
            await stream.close()
            await stream.close()
            with pytest.raises(StreamClosedError, match="closed for input"):
                await stream.turn("Too late.")
            assert await events(stream) == []

    run(scenario)


def test_a_stream_is_used_inside_its_block_and_once(run):
    async def scenario(client):
        stream = client.stream()
        for use in (lambda: stream.turn("Too early."), lambda: anext(stream)):
            with pytest.raises(StreamClosedError, match="not open yet"):
                await use()
        async with stream:
            pass
        for use in (lambda: stream.turn("Too late."), lambda: anext(stream)):
            with pytest.raises(StreamClosedError, match="the stream was left"):
                await use()
        with pytest.raises(StreamClosedError, match="only once"):
            async with stream:
                pytest.fail("entered")

    run(scenario)


def test_an_exception_in_the_block_cancels_the_call(run, fake):
    async def scenario(client):
        with pytest.raises(ZeroDivisionError):
            async with client.stream() as stream:
                await stream.turn("Hello.")
                raise ZeroDivisionError
        assert fake.left.wait(timeout=60)

    run(scenario)


def test_leaving_in_the_middle_cancels_the_call(run, fake):
    async def scenario(client):
        async with client.stream() as stream:
            await stream.turn("One.\nTwo.\nThree.")
            await anext(stream)
        assert fake.left.wait(timeout=60)

    run(scenario)


def test_malformed_items_are_refused_before_they_are_sent(run):
    async def scenario(client):
        async with client.stream() as stream:
            for send, field in [
                (lambda: stream.turn(b"bytes"), "text: must be a str"),
                (lambda: stream.turn("a\udfff"), "text: character 1 is a lone surrogate"),
                (lambda: stream.turn("a", revision=-1), "revision: must be a whole number"),
                (lambda: stream.turn("a", turn_id=7), "turn_id: must be a str"),
                (lambda: stream.document("a\udfff"), "document: character 1 is a lone surrogate"),
                (lambda: stream.document("a", document_id=7), "document_id: must be a str"),
                (lambda: stream.cancel_turn("a", revision=2**31), "revision: must be a whole number"),
            ]:
                with pytest.raises(InvalidRequestError, match=field):
                    await send()
            await stream.close()
            assert await events(stream) == []

    run(scenario)
