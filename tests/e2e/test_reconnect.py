"""The client's stream goes on over the server's endings: too old, idle, restarted, killed."""

from __future__ import annotations

import asyncio
import queue
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.client.conftest import AsyncFace
from tests.e2e.conftest import REPOSITORY, Server, StartServer, running

from kniv.client import AsyncClient, Client, ConnectionLost, ItemDone, ItemFailed, Outcome, Reconnect, SentenceEvent

PATIENCE = 60.0
LINES = ["Could you book a table?", "For how many?", "Four, please.", "Yes.", "Thank you!", "No, that is wrong."]
SERVED = ("--model-repository", str(REPOSITORY))


@pytest.fixture(params=["threads", "asyncio"])
def make_client(request: pytest.FixtureRequest) -> Any:
    """Makes clients that are used like AsyncClient."""
    return AsyncClient if request.param == "asyncio" else lambda target: AsyncFace(Client(target))


class Talk:
    """A stream of turns: what it loses and what it is told."""

    def __init__(self) -> None:
        self.losses: queue.Queue[ConnectionLost] = queue.Queue()
        self.acts: dict[str, str] = {}
        self.ended: list[str] = []
        self.sent = 0

    def open(self, client: Any) -> Any:
        self.stream = client.stream(tasks=["dialog_act"], reconnect=Reconnect(listener=self.losses.put))
        return self.stream

    async def say(self) -> None:
        await self.stream.turn(LINES[self.sent % len(LINES)], turn_id=str(self.sent), speaker="ab"[self.sent % 2])
        self.sent += 1

    async def hear(self, ends: int) -> None:
        """Take in events until so many items have ended in all."""
        while len(self.ended) < ends:
            event = await anext(self.stream)
            assert not isinstance(event, ItemFailed), event
            if isinstance(event, SentenceEvent):
                assert event.item_id not in self.acts, "a sentence came twice"
                assert event.sentence.dialog_act is not None
                self.acts[event.item_id] = event.sentence.dialog_act.label
            elif isinstance(event, ItemDone):
                assert event.outcome is Outcome.COMPLETE
                self.ended.append(event.item_id)

    async def finish(self) -> list[str]:
        """The acts of all turns, after nothing else has come."""
        await self.stream.close()
        await self.hear(self.sent)
        assert not [event async for event in self.stream]
        assert sorted(self.ended, key=int) == [str(number) for number in range(self.sent)]
        return [self.acts[str(number)] for number in range(self.sent)]


async def unbroken(server: Server, turns: int) -> list[str]:
    """The acts of as many turns on a server that lets streams last."""
    talk = Talk()
    async with AsyncClient(server.target) as client, talk.open(client):
        for _ in range(turns):
            await talk.say()
        acts = await talk.finish()
    assert talk.losses.empty()
    return acts


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--stream-age-seconds", "0.2"], id="stream"),
        pytest.param(["--connection-age-seconds", "0.2", "--connection-grace-seconds", "0.2"], id="connection"),
    ],
)
def test_a_stream_goes_on_over_the_next_when_it_is_old(
    start_server: StartServer, server: Server, make_client: Any, flags: list[str]
) -> None:
    limited = start_server(*SERVED, *flags)

    async def scenario() -> None:
        talk = Talk()
        async with make_client(limited.target) as client, talk.open(client):
            while talk.losses.qsize() < 5:
                await talk.say()
                await talk.hear(talk.sent - 3)
            acts = await talk.finish()
        assert acts == await unbroken(server, talk.sent)
        errors = [talk.losses.get().error for _ in range(talk.losses.qsize())]
        assert {error.code for error in errors} == {"UNAVAILABLE"}
        assert all("as old as streams may get" in str(error) for error in errors) == ("--stream-age-seconds" in flags)

    asyncio.run(scenario())


def test_a_stream_goes_on_over_the_next_when_there_is_something_to_say_again(
    start_server: StartServer, server: Server, make_client: Any
) -> None:
    limited = start_server(*SERVED, "--stream-idle-seconds", "0.2")

    async def scenario() -> None:
        talk = Talk()
        async with make_client(limited.target) as client, talk.open(client):
            for number in range(len(LINES)):
                await talk.say()
                await talk.hear(number + 1)
                error = (await asyncio.to_thread(talk.losses.get, timeout=PATIENCE)).error
                assert error.code == "UNAVAILABLE" and "was idle" in str(error)
            await talk.stream.turn("Once more?", turn_id="0")
            refusal = await anext(talk.stream)
            assert (refusal.item_id, refusal.error.code) == ("0", "ALREADY_EXISTS")
            acts = await talk.finish()
        assert talk.losses.empty(), "opened although there was nothing to say"
        assert acts == await unbroken(server, talk.sent)

    asyncio.run(scenario())


def test_a_document_that_is_still_being_sent_goes_on_over_streams_that_are_old(
    start_server: StartServer, server: Server, make_client: Any
) -> None:
    limited = start_server(*SERVED, "--stream-age-seconds", "0.2")
    pieces = [f"This is sentence {number}.\n\n".encode() for number in range(60)]

    async def scenario() -> None:
        losses: queue.Queue[ConnectionLost] = queue.Queue()
        async with make_client(limited.target) as client:
            stream = client.stream(tasks=["pos"], reconnect=Reconnect(listener=losses.put))
            async with stream:
                for place, piece in enumerate(pieces):
                    await stream.chunk("d", piece, last=place == len(pieces) - 1)
                    if place % 20 == 10:  # more than once in the middle of it
                        await asyncio.to_thread(losses.get, timeout=PATIENCE)
                await stream.close()
                events = [event async for event in stream]
        assert isinstance(events[-1], ItemDone) and events[-1].outcome is Outcome.COMPLETE, events[-1]
        told = [event.sentence for event in events if isinstance(event, SentenceEvent)]
        assert len(told) == len(events) - 1 == len(pieces), "a sentence is missing, or came twice"
        whole = b"".join(pieces).decode()
        assert all(whole[one.start : one.start + len(one.text)] == one.text for one in told)

    asyncio.run(scenario())


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_stream_outlives_the_server(tmp_path: Path, server: Server, make_client: Any, end: signal.Signals) -> None:
    async def scenario() -> None:
        talk = Talk()
        with ExitStack() as servers:
            first = servers.enter_context(running(tmp_path, *SERVED))
            async with make_client(first.target) as client, talk.open(client):
                for number in range(40):
                    await talk.say()
                    if number == 20:
                        first.process.send_signal(end)
                await asyncio.to_thread(first.process.wait, PATIENCE)
                await asyncio.to_thread(talk.losses.get, timeout=PATIENCE)
                port = first.target.rpartition(":")[2]
                second = running(tmp_path, *SERVED, "--port", port)
                await asyncio.to_thread(servers.enter_context, second)
                acts = await talk.finish()
        assert acts == await unbroken(server, talk.sent)

    asyncio.run(scenario())
