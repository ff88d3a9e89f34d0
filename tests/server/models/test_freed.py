from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from tests.server.models.conftest import MakeControl

from kniv.server.models.modes import ControlMode
from kniv.server.pipeline.encode import Encoder
from kniv.server.repository.metadata import Metadata
from kniv.server.scheduling.row import Row
from kniv.server.scheduling.urgency import Urgency


def test_a_version_out_of_use_gives_up_its_sessions_whoever_still_knows_it(
    repository: Path, make_control: MakeControl
) -> None:
    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        await control.load("tiny")
        lease = control.catalogue.lease("tiny", 1)
        row = Row(np.array([2, 5, 6, 3]), 0, ("cls_logits",), lambda outputs: float(outputs["cls_logits"][0]))
        await lease.version.rows[lease.variant].submit(row, Urgency())
        assert all(variant.sessions for variant in lease.version.opened.variants.values())
        lease.release()
        await lease.version.retire()
        assert not any(variant.sessions for variant in lease.version.opened.variants.values())

    asyncio.run(asyncio.wait_for(main(), 120))


def test_empty_pages_of_all_that_is_freed_go_back_while_the_loop_goes_on(
    repository: Path, make_control: MakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("kniv.server.memory.give_back", lambda: seen.append(threading.get_ident()))

    async def main() -> None:
        control = make_control(repository, ControlMode.EXPLICIT)
        await control.load("tiny")
        loads = len(seen)
        await control.unload("tiny")
        await asyncio.gather(*control._tasks)
        assert len(seen) == loads + 2  # versions
        assert threading.get_ident() not in seen

    asyncio.run(asyncio.wait_for(main(), 120))


def test_an_encoder_is_freed_without_a_collection_of_garbage(tiny: Path) -> None:
    gc.disable()
    try:
        encoder = Encoder(tiny / "tokenizer.json", Metadata())
        encoder.windows(["a", "word"])
        gone = weakref.ref(encoder)
        del encoder
        assert gone() is None
    finally:
        gc.enable()
