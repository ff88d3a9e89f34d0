from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Coroutine
from pathlib import Path

import numpy as np
import pytest
from tests.server.models.conftest import MakeControl

from kniv.server.errors import InvalidRequestError, NotAllowedError, NotFoundError, NotReadyError, RepositoryError
from kniv.server.models import control
from kniv.server.models.catalogue import State
from kniv.server.models.modes import ControlMode
from kniv.server.models.opening import OpenedVersion, open_version
from kniv.server.models.version import Lease, LoadedVersion
from kniv.server.repository.config import ModelConfig
from kniv.server.repository.layout import VersionFiles
from kniv.server.scheduling.row import Row
from kniv.server.scheduling.urgency import Urgency

CONFIG = "version_policy {{ specific {{ versions: {} }} }}"


def run(work: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


async def answer(lease: Lease) -> float:
    """What the leased model gives for a fixed row."""
    row = Row(np.array([2, 5, 6, 3]), 0, ("cls_logits",), lambda outputs: float(outputs["cls_logits"][0]))
    return (await lease.version.rows[lease.variant].submit(row, Urgency())).value


def rewrite(folder: Path) -> None:
    """Give the folder's graphs a new time, as an upload of the same files would."""
    for path in folder.glob("*.onnx"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def test_a_reload_goes_on_for_those_that_hold_the_version_before(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        await control.load("tiny")
        before = control.catalogue.lease("tiny", 1)
        expected = await answer(before)
        rewrite(repository / "tiny" / "1")
        await control.load("tiny")
        after = control.catalogue.lease("tiny", 1)
        assert after.version is not before.version
        assert await answer(before) == await answer(after) == expected
        with control.catalogue.lease("tiny", 2) as other:
            assert other.version.number == 2
        before.release()
        await before.version.retire()
        assert control.catalogue.find("tiny", 1) is after.version

    run(main())


def test_what_has_not_changed_is_not_loaded_again(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        await asyncio.gather(control.load("tiny"), control.load("tiny"))
        first, second = control.catalogue.find("tiny", 1), control.catalogue.find("tiny", 2)
        rewrite(repository / "tiny" / "2")
        await control.load("tiny")
        assert control.catalogue.find("tiny", 1) is first
        assert control.catalogue.find("tiny", 2) is not second

    run(main())


@pytest.mark.parametrize("damage", ["truncated", "tokenizer", "config", "labels"])
def test_a_failed_load_leaves_what_serves_and_tells_why(
    repository: Path, make_control: MakeControl, damage: str
) -> None:
    folder = repository / "tiny" / "2"
    culprit = {
        "truncated": folder / "cascade-int8.onnx",
        "tokenizer": folder / "tokenizer.json",
        "config": repository / "tiny" / "config.pbtxt",
        "labels": folder / "labels.json",
    }[damage]

    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        await control.load("tiny")
        serving = control.catalogue.find("tiny", 2)
        if damage == "tokenizer":
            culprit.unlink()
        elif damage == "labels":
            labels = json.loads(culprit.read_text())
            labels["pos"].append("NEW")
            culprit.write_text(json.dumps(labels))
        else:
            culprit.write_bytes(culprit.read_bytes()[:10])
        with pytest.raises(RepositoryError):
            await control.load("tiny")
        entry = (await control.index())["tiny"][2]
        assert control.catalogue.find("tiny") is serving and entry.state is State.READY
        assert ("pos_logits" if damage == "labels" else culprit.name) in entry.reason

    run(main())


def test_a_load_goes_on_when_its_caller_is_gone(
    repository: Path, make_control: MakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its versions would be LOADING, and callers told to come back, for ever."""
    begun, gate = threading.Event(), threading.Event()

    def slow(files: VersionFiles, config: ModelConfig, threads: int) -> OpenedVersion:
        begun.set()
        gate.wait()
        return open_version(files, config, threads)

    monkeypatch.setattr(control, "open_version", slow)

    async def main() -> None:
        made = make_control(repository, ControlMode.EXPLICIT)
        call = asyncio.create_task(made.load("tiny"))
        await asyncio.to_thread(begun.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        await made.load("tiny")
        assert {entry.state for entry in made.catalogue.models["tiny"].values()} == {State.READY}

    run(main())


def test_what_nobody_foresaw_fails_one_load_and_no_other(
    repository: Path, make_control: MakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(files: VersionFiles, config: ModelConfig, threads: int) -> OpenedVersion:
        if files.version == 2:
            raise MemoryError("no room")
        return open_version(files, config, threads)

    monkeypatch.setattr(control, "open_version", full)

    async def main() -> None:
        made = make_control(repository, ControlMode.NONE)
        (failure,) = await made.start()
        assert "MemoryError: no room" in str(failure)
        states = {number: entry.state for number, entry in made.catalogue.models["tiny"].items()}
        assert states == {1: State.READY, 2: State.UNAVAILABLE}

    run(main())


def test_a_version_that_hangs_is_loaded_anew_though_nothing_has_changed(
    repository: Path, make_control: MakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        made = make_control(repository, ControlMode.EXPLICIT)
        await made.load("tiny")
        first, second = made.catalogue.find("tiny", 1), made.catalogue.find("tiny", 2)
        monkeypatch.setattr(LoadedVersion, "hangs", property(lambda version: version is second))
        await made.load("tiny")
        assert made.catalogue.find("tiny", 1) is first
        assert made.catalogue.find("tiny", 2) is not second

    run(main())


def test_a_version_stays_until_its_successor_serves(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        config = repository / "tiny" / "config.pbtxt"
        config.write_text(CONFIG.format(1))
        control = make_control(repository, ControlMode.EXPLICIT)
        await control.load("tiny")
        whole = (repository / "tiny" / "2" / "cascade-int8.onnx").read_bytes()
        (repository / "tiny" / "2" / "cascade-int8.onnx").write_bytes(whole[:1000])
        config.write_text(CONFIG.format(2))
        with pytest.raises(RepositoryError, match=r"2/cascade-int8\.onnx"):
            await control.load("tiny")
        assert control.catalogue.find("tiny").number == 1
        with pytest.raises(NotReadyError, match="version 2"):
            control.catalogue.find("tiny", 2)
        (repository / "tiny" / "2" / "cascade-int8.onnx").write_bytes(whole)
        await control.load("tiny")
        assert control.catalogue.find("tiny").number == 2
        with pytest.raises(NotReadyError, match="version policy"):
            control.catalogue.find("tiny", 1)

    run(main())


def test_after_a_restart_the_version_before_a_broken_one_serves(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        (repository / "tiny" / "config.pbtxt").unlink()
        (repository / "tiny" / "2" / "labels.json").unlink()
        control = make_control(repository, ControlMode.NONE)
        (failure,) = await control.start()
        assert "2/labels.json" in str(failure)
        assert control.catalogue.find("tiny").number == 1

    run(main())


def test_unloading_waits_for_requests_and_takes_no_new_ones(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        await control.load("tiny")
        lease = control.catalogue.lease("tiny", 2)
        await control.unload("tiny")
        with pytest.raises(NotReadyError, match="unloaded"):
            control.catalogue.lease("tiny", 2)
        index = await control.index()
        assert index["tiny"][2].state is State.UNLOADING
        await answer(lease)
        lease.release()
        await lease.version.retire()
        await asyncio.sleep(0)
        assert (await control.index())["tiny"][2].state is State.UNAVAILABLE
        await control.load("tiny")
        assert control.catalogue.find("tiny").number == 2

    run(main())


def test_a_configuration_of_the_caller_holds_until_the_next_load(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        await control.load("tiny", '{"version_policy": {"specific": {"versions": [1]}}, "max_batch_size": 3}')
        assert control.catalogue.find("tiny").number == 1
        assert control.catalogue.find("tiny").opened.config.max_batch_size == 3
        with pytest.raises(RepositoryError, match="no_such_field"):
            await control.load("tiny", '{"no_such_field": 1}')
        assert control.catalogue.find("tiny").number == 1
        await control.load("tiny")
        assert control.catalogue.find("tiny").number == 2

    run(main())


def test_callers_load_in_explicit_mode_alone(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        for mode in (ControlMode.NONE, ControlMode.POLL):
            control = make_control(repository, mode)
            with pytest.raises(NotAllowedError, match="--model-control-mode"):
                await control.load("tiny")
            with pytest.raises(NotAllowedError):
                await control.unload("tiny")

    run(main())


@pytest.mark.parametrize("name", ["", "..", "../tiny", "tiny/1", "tiny\0", "/etc", "nobody", "x" * 5000])
def test_names_that_are_no_models_are_refused(repository: Path, make_control: MakeControl, name: str) -> None:
    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        with pytest.raises((NotFoundError, InvalidRequestError)):
            await control.load(name)
        with pytest.raises(NotFoundError):
            await control.unload(name)

    run(main())


def test_the_index_tells_of_models_that_are_not_loaded(repository: Path, make_control: MakeControl) -> None:
    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        shutil.copytree(repository / "tiny" / "1", repository / "other" / "1")
        await control.start(["other", "nobody"])
        index = await control.index()
        assert {name: [entry.state for entry in versions.values()] for name, versions in index.items()} == {
            "other": [State.READY],
            "tiny": [State.UNAVAILABLE, State.UNAVAILABLE],
        }

    run(main())
