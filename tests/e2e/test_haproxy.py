"""Replicas behind HAProxy with deploy/haproxy.cfg, which are killed under a hundred streams, load, leave and hang."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from tests.e2e.conftest import REPOSITORY, ROOT, running
from tests.e2e.starting import starting, until
from tests.e2e.test_tls import Files

from kniv.client import (
    AsyncClient,
    Client,
    ConnectionLost,
    ItemDone,
    ItemFailed,
    KnivError,
    Outcome,
    Reconnect,
    SentenceEvent,
    Stream,
    tls_credentials,
)

HAPROXY = os.environ.get("KNIV_HAPROXY") or shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
CONFIGURATION = ROOT / "deploy" / "haproxy.cfg"
STREAMS, TURNS = 100, 12
LINES = ["Could you book a table?", "For how many?", "Four, please.", "Yes.", "Thank you!", "No, that is wrong."]

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="needs haproxy (apt install haproxy, or KNIV_HAPROXY)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def balancer(
    replicas: list[str], configuration: Path = CONFIGURATION, credentials: grpc.ChannelCredentials | None = None
) -> Iterator[str]:
    """HAProxy in front of the replicas; the credentials are those of its clients."""
    target = f"localhost:{free_port()}"
    names = {f"KNIV_REPLICA_{number}": replica for number, replica in enumerate(replicas, 1)}
    command = [str(HAPROXY), "-db", "-f", str(configuration)]
    process = subprocess.Popen(command, env=os.environ | names | {"KNIV_BIND": target})
    try:
        with grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        yield target
    finally:
        process.kill()
        process.wait()


def text_of(stream: int, turn: int) -> str:
    return LINES[(stream * 7 + turn * turn) % len(LINES)]


Talk = tuple[list[str], list[str]]


async def talk(
    client: AsyncClient, number: int, half: asyncio.Event, count: list[int], losses: list[ConnectionLost]
) -> Talk:
    """One stream's turns, a few under way at a time: its acts and the ends of its turns."""
    acts: dict[str, str] = {}
    ends: list[str] = []
    async with client.stream(
        tasks=["dialog_act"], reconnect=Reconnect(patience_s=300, listener=losses.append)
    ) as stream:

        async def send() -> None:
            for turn in range(TURNS):
                if turn == TURNS // 2:
                    count[0] += 1
                    if count[0] == STREAMS:
                        half.set()
                await stream.turn(text_of(number, turn), turn_id=str(turn), speaker="ab"[turn % 2])
            await stream.close()

        sending = asyncio.create_task(send())
        async for event in stream:
            assert not isinstance(event, ItemFailed), event
            if isinstance(event, SentenceEvent):
                assert event.item_id not in acts, "a sentence came twice"
                assert event.sentence.dialog_act is not None
                acts[event.item_id] = event.sentence.dialog_act.label
            elif isinstance(event, ItemDone):
                assert event.outcome is Outcome.COMPLETE
                ends.append(event.item_id)
        await sending
    return [acts[str(turn)] for turn in range(TURNS)], ends


async def hundred(target: str, kill: Callable[[], None] | None, losses: list[ConnectionLost]) -> list[Talk]:
    half, count = asyncio.Event(), [0]
    async with AsyncClient(target) as client:
        talks = [asyncio.create_task(talk(client, number, half, count, losses)) for number in range(STREAMS)]
        await asyncio.wait({asyncio.create_task(half.wait()), *talks}, return_when=asyncio.FIRST_COMPLETED)
        if kill is not None:
            kill()
        return await asyncio.gather(*talks)


def test_a_killed_replica_costs_no_turn_and_doubles_none(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    flags = ("--model-repository", str(REPOSITORY))
    with running(folders[0], *flags) as a, running(folders[1], *flags) as b, running(folders[2], *flags) as c:
        unbroken = asyncio.run(hundred(a.target, None, []))
        with balancer([a.target, b.target, c.target]) as target:
            losses: list[ConnectionLost] = []
            broken = asyncio.run(hundred(target, b.process.kill, losses))
            b.process.wait(30)
    assert any(loss.unanswered for loss in losses), "the replica was killed too late to matter"
    for (acts, ends), (expected, _) in zip(broken, unbroken, strict=True):
        assert sorted(ends, key=int) == [str(turn) for turn in range(TURNS)]
        assert acts == expected


def repository(folder: Path, model: str) -> Path:
    """A repository with the embedded model under another name, by which a replica tells who it is."""
    shutil.copytree(REPOSITORY / "kniv-mini", folder / model, ignore=shutil.ignore_patterns(".*"))
    return folder


def answer(stream: Stream) -> str:
    """Have a turn answered; the model that did."""
    name = stream.turn("Could you book a table?")
    models = []
    for event in stream:
        if isinstance(event, SentenceEvent):
            models.append(event.sentence.model.name)
        elif isinstance(event, ItemDone) and event.item_id == name:
            break
    (model,) = models
    return model


def takers(client: Client) -> set[str]:
    """The replicas that a few streams opened side by side come to."""
    found = set()
    with ExitStack() as stack:
        try:
            for _ in range(4):
                found.add(stack.enter_context(client.stream(tasks=["dialog_act"])).model.name)
        except KnivError:
            pass  # a replica was chosen that has just turned out not to answer
        return found


def test_new_streams_go_to_replicas_that_serve(tmp_path: Path) -> None:
    def flags(model: str) -> tuple[str, ...]:
        return ("--model-repository", str(repository(tmp_path / model / "models", model)))

    one = flags("one")
    two = (*flags("two"), "--lame-duck-seconds", "600")
    three = (*flags("three"), "--model-control-mode", "explicit", "--load-model", "three")
    with (
        running(tmp_path / "one", *one) as steady,
        starting(tmp_path / "two", *two) as leaving,
        starting(tmp_path / "three", *three, faults=("hold-three",)) as late,
        balancer([steady.target, leaving.target, late.target]) as target,
        Client(target) as client,
    ):
        until(lambda: takers(client) == {"one", "two"}, "streams at those that have loaded")
        late.mend("hold-three")
        until(lambda: takers(client) == {"one", "two", "three"}, "streams at the one that has loaded late")

        with ExitStack() as stack:
            losses: list[ConnectionLost] = []
            policy = Reconnect(listener=losses.append)
            streams: dict[str, Stream] = {}
            while len(streams) < 3:
                stream = stack.enter_context(client.stream(tasks=["dialog_act"], reconnect=policy))
                streams.setdefault(stream.model.name, stream)

            leaving.process.send_signal(signal.SIGTERM)
            until(lambda: takers(client) == {"one", "three"}, "no new streams at the one about to stop")
            assert {name: answer(stream) for name, stream in streams.items()} == {name: name for name in streams}
            assert not losses

            late.process.send_signal(signal.SIGSTOP)
            try:
                assert answer(streams["three"]) == "one"
            finally:
                late.process.send_signal(signal.SIGCONT)
            assert losses
            until(lambda: takers(client) == {"one", "three"}, "new streams at the one that is back")


def test_with_tls_on_both_sides(tmp_path: Path) -> None:
    files = Files(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    text = CONFIGURATION.read_text(encoding="utf-8")
    text = text.replace('"${KNIV_BIND}" proto h2', f'"${{KNIV_BIND}}" ssl crt {both} alpn h2')
    tls = f"ssl verify required ca-file {files.ca} verifyhost localhost alpn h2 check-alpn h2"
    text = text.replace("default-server proto h2", f"default-server {tls}")
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(text, encoding="utf-8")
    credentials = tls_credentials(ca_file=files.ca)
    nobody = f"127.0.0.1:{free_port()}"
    with (
        running(tmp_path, "--model-repository", str(REPOSITORY), "--lame-duck-seconds", "600", *files.flags) as server,
        balancer([server.target, nobody, nobody], configuration, credentials) as target,
        Client(target, credentials=credentials) as client,
        client.stream(tasks=["dialog_act"]) as stream,
    ):
        assert answer(stream) == "kniv-mini"
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not takers(client), "no new streams at the one about to stop")
        assert answer(stream) == "kniv-mini"
        server.process.send_signal(signal.SIGTERM)
