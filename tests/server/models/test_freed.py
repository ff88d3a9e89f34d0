from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import numpy as np
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
