"""Models come and go while streams are under way; no request notices."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from pathlib import Path

import grpc
import pytest
from tests.e2e.conftest import StartServer
from tests.e2e.wire import Response, configuration, name_of, turn
from tritonclient.grpc import service_pb2, service_pb2_grpc

from kniv.v1 import annotation_service_pb2_grpc as stubs

TEXT = "One fine day. Two came along! Was it three?"
STREAMS, RELOADS = 50, 4


class Chat:
    """A stream that always has a turn under way, until told to stop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = stubs.AnnotationServiceStub(channel).StreamAnnotations()
        self.versions: dict[str, list[int]] = defaultdict(list)
        self.done: list[Response] = []

    async def run(self, enough: asyncio.Event) -> None:
        await self._call.write(configuration(options={"tasks": ["TASK_POS"]}))
        number = 0
        while not enough.is_set() or number < 2:
            number += 1
            await self._call.write(turn(str(number), TEXT))
            await self._until_end()
        await self._call.done_writing()
        assert await self._call.read() == grpc.aio.EOF
        assert await self._call.code() == grpc.StatusCode.OK

    async def _until_end(self) -> None:
        while True:
            response: Response = await self._call.read()
            assert not response.HasField("error"), response
            if response.HasField("sentence"):
                annotation = response.sentence.annotation
                self.versions[name_of(response.sentence.item)].append(annotation.model.version)
                assert all(token.upos for token in annotation.tokens)
            if response.HasField("completion"):
                self.done.append(response)
                return


async def rollouts(target: str, folder: Path, enough: asyncio.Event) -> None:
    """Bring out version after version, then touch the last: all while streams are under way."""
    async with grpc.aio.insecure_channel(target) as channel:
        admin = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for version in range(2, 2 + RELOADS):
            shutil.copytree(folder / "1", folder / str(version))
            await admin.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny"))
        (folder / str(1 + RELOADS) / "metadata.json").touch()
        await admin.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny"))
        (folder / "config.pbtxt").write_text("nonsense")
        with pytest.raises(grpc.aio.AioRpcError, match=r"config\.pbtxt"):
            await admin.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny"))
    enough.set()


def test_reloads_under_fifty_streams_fail_nothing(
    tiny_repository: Path, tmp_path: Path, start_server: StartServer
) -> None:
    root = tmp_path / "models"
    shutil.copytree(tiny_repository, root)
    server = start_server("--model-repository", str(root), "--model-control-mode", "explicit", "--load-model", "tiny")

    async def main() -> list[Chat]:
        enough = asyncio.Event()
        async with grpc.aio.insecure_channel(server.target) as channel, asyncio.TaskGroup() as group:
            chats = [Chat(channel) for _ in range(STREAMS)]
            for chat in chats:
                group.create_task(chat.run(enough))
            group.create_task(rollouts(server.target, root / "tiny", enough))
        return chats

    chats = asyncio.run(asyncio.wait_for(main(), 300))
    seen = set[int]()
    for chat in chats:
        assert len(chat.done) == len(chat.versions)
        for versions in chat.versions.values():
            assert len(versions) == 3 and len(set(versions)) == 1, "an item mixes versions"
            seen.add(versions[0])
    assert {1, 1 + RELOADS} <= seen
