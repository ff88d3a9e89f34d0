"""Calls without a stream: the same assertions for both clients."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from tests.client.conftest import AsyncFace

from kniv.client import (
    AsyncClient,
    CallCancelledError,
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    KnivError,
    NotFoundError,
    OffsetUnit,
    Reconnect,
    ResourceExhaustedError,
    ServerError,
    Task,
    TextInput,
    UnavailableError,
)
from kniv.v1 import annotation_pb2


def test_annotate_gives_typed_sentences(run):
    async def scenario(client):
        first, second = await client.annotate("Ada wrote.\nDid she?")
        assert [token.text for token in first.tokens] == ["Ada", "wrote", "."]
        assert (first.tokens[1].head, first.tokens[1].relation, first.tokens[1].upos) == (0, "dep", "X")
        assert (first.entities[0].type, first.frames[0].arguments[0].role) == ("PERSON", "ARG0")
        assert (second.index, second.start, second.text) == (1, 11, "Did she?")
        assert second.dialog_act.label == "question"
        assert (second.model.name, second.model.version, second.model.variant) == ("fake", 3, "int8")

    run(scenario)


def test_every_option_reaches_the_server(run, fake):
    async def scenario(client):
        await client.annotate(
            "Yes.",
            previous="Really?",
            predicates=[(0, 3)],
            tasks=["pos", Task.DIALOG_ACT],
            model="m",
            version=2,
            variant="int8",
            offset_unit=OffsetUnit.UTF16_CODE_UNIT,
            priority=1,
        )
        (request,) = fake.received
        options = request.options
        assert (options.model, options.version, options.variant, options.priority) == ("m", 2, "int8", 1)
        assert list(options.tasks) == [annotation_pb2.TASK_POS, annotation_pb2.TASK_DIALOG_ACT]
        assert options.offset_unit == annotation_pb2.OFFSET_UNIT_UTF16_CODE_UNIT
        assert request.inputs[0].previous_text == "Really?"
        assert [(span.start, span.end) for span in request.inputs[0].predicates] == [(0, 3)]

    run(scenario)


def test_a_bad_text_fails_alone(run):
    async def scenario(client):
        good, bad, other = await client.annotate_many(["One.", "bad", TextInput("Two.\nThree.", previous="One.")])
        assert [found.text for found in good] == ["One."]
        assert isinstance(bad, InvalidRequestError)
        assert str(bad) == "text: is bad"
        assert len(other) == 2

    run(scenario)


def test_annotate_raises_what_failed(run):
    async def scenario(client):
        with pytest.raises(InvalidRequestError, match="text: is bad"):
            await client.annotate("bad")

    run(scenario)


def test_models_reads_every_page(run):
    async def scenario(client):
        models = await client.models()
        assert [model.name for model in models] == ["model-0", "model-1", "model-2"]
        assert [model.versions[0].ready for model in models] == [True, False, True]
        assert models[1].versions[0].reason == "no weights"
        assert models[0].versions[0].tasks == (Task.DIALOG_ACT,)
        assert models[0].versions[0].labels is None

    run(scenario)


def test_model_tells_labels_and_limits(run):
    async def scenario(client):
        assert (await client.model()).name == "default"
        (version,) = (await client.model("m")).versions
        assert version.labels.dialog_acts == ("question", "statement")
        assert version.limits.max_subwords == 128

    run(scenario)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.DATA_LOSS, ServerError),
    ],
)
def test_statuses_become_errors(run, fake, code, kind):
    fake.refuse = lambda context: context.abort(code, "model: no such thing")

    async def scenario(client):
        with pytest.raises(kind, match="model: no such thing") as caught:
            await client.annotate("Hello.")
        assert caught.value.code == code.name
        assert caught.value.retry_after_s is None
        with pytest.raises(kind):
            await client.model("m")

    run(scenario)


def test_the_server_can_tell_when_to_try_again(run, fake):
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=500_000_000)))
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="queue is full", details=[detail])
    fake.refuse = lambda context: context.abort_with_status(rpc_status.to_status(status))

    async def scenario(client):
        with pytest.raises(ResourceExhaustedError, match="queue is full") as caught:
            await client.annotate("Hello.")
        assert caught.value.retry_after_s == 2.5

    run(scenario)


def test_unavailable_is_tried_again(run, fake):
    def refuse_twice(context):
        if len(fake.received) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    fake.refuse = refuse_twice

    async def scenario(client):
        assert len(await client.annotate("Hello.")) == 1
        assert len(fake.received) == 3

    run(scenario)


def test_a_passed_deadline_is_not_tried_again(run, fake):
    fake.refuse = lambda context: context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late")

    async def scenario(client):
        with pytest.raises(DeadlineExceededError, match="too late"):
            await client.annotate("Hello.")
        assert len(fake.received) == 1

    run(scenario)


def test_timeout_ends_a_call(run, fake):
    fake.refuse = lambda context: fake.release.wait() and None

    async def scenario(client):
        with pytest.raises(DeadlineExceededError):
            await client.annotate("Hello.", timeout=0.1)

    run(scenario)


def test_nobody_at_the_target():
    with Client("127.0.0.1:1") as client, pytest.raises(UnavailableError):
        client.annotate("Hello.", timeout=30)


def test_target_comes_from_the_environment(fake, monkeypatch):
    monkeypatch.setenv("KNIV_TARGET", fake.target)
    with Client() as client:
        assert client.annotate("Hello.")


def test_cancelling_a_task_cancels_its_call(fake):
    arrived, gone = threading.Event(), threading.Event()

    def hold(context):
        context.add_callback(gone.set)
        arrived.set()
        fake.release.wait()

    fake.refuse = hold

    async def scenario():
        async with AsyncClient(fake.target) as client:
            task = asyncio.create_task(client.annotate("Hello."))
            assert await asyncio.to_thread(arrived.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(gone.wait, 60)

    asyncio.run(scenario())


def test_malformed_requests_are_refused_before_they_are_sent(run, fake):
    async def scenario(client):
        for arguments, field in [
            ({"text": 3}, r"texts\[0\].text: must be a str, not int"),
            ({"text": "a\ud800"}, r"texts\[0\].text: character 1 is a lone surrogate"),
            ({"text": "a", "previous": b"b"}, r"texts\[0\].previous"),
            ({"text": "a", "predicates": [3]}, r"predicates: must be pairs"),
            ({"text": "a", "predicates": [(-1, 3)]}, r"predicates.start: must be a whole number"),
            ({"text": "a", "tasks": ["sentiment"]}, "tasks: 'sentiment' is none of pos, ner, dep, srl, dialog_act"),
            ({"text": "a", "tasks": "pos"}, "tasks: must be a list"),
            ({"text": "a", "offset_unit": "grapheme"}, "offset_unit: 'grapheme' is none of"),
            ({"text": "a", "priority": -1}, "priority: must be a whole number"),
            ({"text": "a", "version": 2**63}, "version: must be a whole number"),
        ]:
            with pytest.raises(InvalidRequestError, match=field):
                await client.annotate(**arguments)
        with pytest.raises(InvalidRequestError, match="texts: must be a list"):
            await client.annotate_many("one text")
        assert fake.received == []

    run(scenario)


def test_misspelt_options_are_refused(run):
    async def scenario(client):
        with pytest.raises(TypeError, match="unexpected keyword argument 'prioriti'"):
            await client.annotate("Hello.", prioriti=1)
        with pytest.raises(TypeError, match="unexpected keyword argument 'in_order'"):
            await client.annotate("Hello.", in_order=True)
        with pytest.raises(TypeError, match="unexpected keyword argument 'variants'"):
            client.stream(variants="int8")

    run(scenario)


def test_a_closed_client_says_so(run):
    async def scenario(client):
        await client.close()
        for call in (lambda: client.annotate("One."), client.models, client.model):
            with pytest.raises(CallCancelledError, match="the client was closed"):
                await call()
        with pytest.raises(CallCancelledError, match="the client was closed"):
            async with client.stream():
                pass

    run(scenario)


def test_a_client_that_is_closed_under_a_call_cancels_the_call_not_the_task(fake):
    asked = threading.Event()

    def refuse(context):
        asked.set()
        fake.release.wait(60)

    fake.refuse = refuse

    async def main():
        client = AsyncClient(fake.target)
        call = asyncio.create_task(client.annotate("One."))
        assert await asyncio.to_thread(asked.wait, 60)
        await client.close()
        with pytest.raises(CallCancelledError):
            await call

    asyncio.run(main())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_token_that_cannot_be_had_ends_a_stream_with_the_reason(kind, fake):
    tokens = iter(["first"])

    def script(requests, context):
        yield next(fake.answer(requests, context))
        context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    fake.script = script

    async def main():
        client = kind(fake.target, token=lambda: next(tokens, None) or 1 / 0)
        face = client if kind is AsyncClient else AsyncFace(client)
        async with face:
            with pytest.raises(KnivError, match="could not be made: ZeroDivisionError") as refused:
                async with face.stream(reconnect=Reconnect(initial_delay_s=0.001, max_delay_s=0.01)) as stream:
                    await stream.turn("One.")
                    async for _ in stream:
                        pass
            assert isinstance(refused.value.__cause__, ZeroDivisionError)

    asyncio.run(main())


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_call_that_a_closing_server_gave_up_is_tried_again(run, fake, code):
    left = [1, 1]
    fake.refuse = lambda context: context.abort(code, code.name) if left and left.pop() else None

    async def scenario(client):
        assert len(await client.annotate("One.")) == 1

    run(scenario)
    assert len(fake.received) == 3
