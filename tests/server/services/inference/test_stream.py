"""The stream without a wire: any mixture of requests, any pace of reader, writer and model."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import DeniedError, InferenceError, InvalidRequestError, NotFoundError
from kniv.server.services.inference.infer import InferenceLimits
from kniv.server.services.inference.stream import InferenceStream
from kniv.server.services.rpc import ClientGoneError

LIMITS = InferenceLimits(response_bytes=100, requests=3)


class Model:
    """Admits requests by their names, and answers after a random number of turns of the loop."""

    def __init__(self, seed: int) -> None:
        self.pace = random.Random(seed)
        self.held = self.bytes = self.most_held = self.most_bytes = 0

    async def admit(self, message: pb.ModelInferRequest) -> Work:
        await self.pause()
        if message.model_name == "unknown":
            raise NotFoundError("no model 'unknown' here")
        return Work(self, message)

    async def pause(self) -> None:
        for _ in range(self.pace.randrange(6)):
            await asyncio.sleep(0)


class Work:
    def __init__(self, model: Model, message: pb.ModelInferRequest) -> None:
        self.model, self.message, self.size = model, message, 40
        self.released = False
        model.held += 1
        model.bytes += self.size
        model.most_held, model.most_bytes = max(model.held, model.most_held), max(model.bytes, model.most_bytes)

    def release(self) -> None:
        if not self.released:
            self.released = True
            self.model.held -= 1
            self.model.bytes -= self.size

    async def answer(self, in_stream: bool) -> bytes:
        assert in_stream
        await self.model.pause()
        if self.message.model_name == "stuck":
            await asyncio.Event().wait()
        if self.message.model_name == "fails":
            raise InferenceError("as it was told to")
        if self.message.model_name == "crashes":
            raise ZeroDivisionError
        response = pb.ModelStreamInferResponse()
        response.infer_response.id = self.message.id
        return response.SerializeToString()


def written_to(out: list[pb.ModelStreamInferResponse], pace: random.Random) -> Callable[[bytes], Awaitable[None]]:
    async def write(response: bytes) -> None:
        for _ in range(pace.randrange(3)):
            await asyncio.sleep(0)
        out.append(pb.ModelStreamInferResponse.FromString(response))

    return write


def served(
    messages: Iterable[pb.ModelInferRequest | Exception], seed: int = 0, stop_after: int | None = None
) -> tuple[list[pb.ModelStreamInferResponse], Model, bool]:
    """Everything that a stream answers, what its model saw, and whether all was served."""
    pace, model, out = random.Random(seed), Model(seed), list[pb.ModelStreamInferResponse]()

    async def main() -> bool:
        coming, draining, count = iter(messages), asyncio.Event(), 0

        async def read() -> pb.ModelInferRequest | None:
            nonlocal count
            for _ in range(pace.randrange(3)):
                await asyncio.sleep(0)
            if count == stop_after:
                draining.set()
                await asyncio.Event().wait()
            count += 1
            message = next(coming, None)
            if isinstance(message, Exception):
                raise message
            return message

        stream = InferenceStream(model.admit, LIMITS, read, written_to(out, pace), draining)  # type: ignore[arg-type]
        return await asyncio.wait_for(stream.run(), 30)

    return out, model, asyncio.run(main())


requests = st.lists(st.sampled_from(["good", "good", "fails", "crashes", "unknown", "broken"]), max_size=25)


def sent(names: list[str]) -> list[pb.ModelInferRequest | Exception]:
    return [
        InvalidRequestError("message", "cannot be parsed")
        if name == "broken"
        else pb.ModelInferRequest(model_name=name, id=str(place))
        for place, name in enumerate(names)
    ]


SAID = {"fails": "told to", "crashes": "internal error", "unknown": "no model", "broken": "cannot be parsed"}


@settings(max_examples=200)
@given(requests, st.integers(0, 1 << 30))
def test_every_request_has_one_response_in_the_requests_order(names: list[str], seed: int) -> None:
    responses, model, whole = served(sent(names), seed)
    assert whole and not model.held
    assert len(responses) == len(names)
    for place, (name, response) in enumerate(zip(names, responses, strict=True)):
        assert response.infer_response.id == ("" if name == "broken" else str(place))
        assert SAID.get(name, "") in response.error_message and bool(response.error_message) == (name in SAID)
        if name in SAID:
            assert response.infer_response.parameters["triton_final_response"].bool_param


@given(st.integers(0, 1 << 30))
def test_what_is_in_flight_is_bounded(seed: int) -> None:
    _, model, _ = served(sent(["good"] * 40), seed)
    # Beside what is queued, the writer waits for one and the reader holds one.
    assert model.most_held <= LIMITS.requests + 2
    assert model.most_bytes <= LIMITS.response_bytes + 2 * 40


@given(requests, st.integers(0, 1 << 30), st.data())
def test_draining_finishes_what_was_read_and_says_that_more_was_not(
    names: list[str], seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(names)))
    responses, model, whole = served(sent(names), seed, stop_after=count)
    assert (whole, model.held, len(responses)) == (False, 0, count)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["good", "stuck", "fails", "unknown"]), max_size=25),
    st.integers(0, 100),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_a_caller_who_may_not_go_on_has_each_request_that_was_read_answered_or_handed_back(
    names: list[str], after: int, half_closed: bool, seed: int
) -> None:
    pace, model, read_ids = random.Random(seed), Model(seed), list[str]()
    out: list[pb.ModelStreamInferResponse] = []

    async def main() -> bool:
        coming, stop = iter(sent(names)), asyncio.Event()

        async def read() -> pb.ModelInferRequest | None:
            await model.pause()
            message = next(coming, None)
            if message is None and not half_closed:
                await asyncio.Event().wait()
            if isinstance(message, pb.ModelInferRequest):
                read_ids.append(message.id)
                return message
            return None

        stream = InferenceStream(model.admit, LIMITS, read, written_to(out, pace), stop)  # type: ignore[arg-type]
        running = asyncio.create_task(stream.run())
        for _ in range(after):
            await asyncio.sleep(0)
        stop.set()
        stream.hand_back(DeniedError("TOKEN_INVALID", "the caller may not go on"))
        return await asyncio.wait_for(running, 30)

    whole = asyncio.run(main())
    assert not model.held
    assert [response.infer_response.id for response in out] == read_ids
    handed_back = ["may not go on" in response.error_message for response in out]
    for name, back, response in zip(names, handed_back, out, strict=False):
        assert back or (name != "stuck" and SAID.get(name, "") in response.error_message)
        if back:
            assert response.infer_response.parameters["triton_final_response"].bool_param
    assert not (whole and any(handed_back))
    assert half_closed or not whole


@given(st.integers(0, 10), st.integers(0, 1 << 30))
def test_a_client_that_goes_leaves_nothing_held(count: int, seed: int) -> None:
    model = Model(seed)

    async def main() -> None:
        coming = iter(sent(["good"] * count))

        async def read() -> pb.ModelInferRequest | None:
            await model.pause()
            message = next(coming, None)
            if message is None:
                raise ClientGoneError
            assert isinstance(message, pb.ModelInferRequest)
            return message

        async def write(response: bytes) -> None:
            await model.pause()

        await InferenceStream(model.admit, LIMITS, read, write, asyncio.Event()).run()  # type: ignore[arg-type]

    with pytest.raises(ExceptionGroup) as failure:
        asyncio.run(main())
    assert failure.group_contains(ClientGoneError)
    assert not model.held


def test_a_call_that_is_cancelled_leaves_nothing_held() -> None:
    model = Model(0)

    async def main() -> None:
        async def read() -> pb.ModelInferRequest | None:
            return pb.ModelInferRequest(model_name="good")

        writing = asyncio.Event()

        async def write(response: bytes) -> None:
            writing.set()
            await asyncio.Event().wait()

        stream = InferenceStream(model.admit, LIMITS, read, write, asyncio.Event())  # type: ignore[arg-type]
        task = asyncio.create_task(stream.run())
        await writing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not model.held
