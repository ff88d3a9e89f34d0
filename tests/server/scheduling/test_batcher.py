from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kniv.server.errors import InferenceError
from kniv.server.scheduling.batcher import Batcher, run_rows
from kniv.server.scheduling.forming import BatchLimits
from kniv.server.scheduling.row import Floats, Ints, Row

OUTPUTS = ("pos_logits", "arc_scores", "cls_logits")


class Echo:
    """Gives each row's ids back in every output; fails a batch that holds the id 666."""

    def __init__(self) -> None:
        self.batches: list[Ints] = []
        self.gate: threading.Event | None = None

    def run(self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...]) -> dict[str, Floats]:
        if self.gate is not None:
            assert self.gate.wait(30)
        self.batches.append(ids)
        if (ids == 666).any():
            raise RuntimeError("the evil row")
        assert ((ids > 0) == (mask > 0)).all()
        values = ids.astype(np.float32)
        everything = {
            "pos_logits": values[..., None],
            "arc_scores": values[:, :, None] * np.ones(ids.shape[1], dtype=np.float32),
            "cls_logits": values.sum(1, keepdims=True),
        }
        return {name: everything[name] for name in outputs}


def row(ids: list[int], read: Callable[[dict[str, Floats]], Any] | None = None, priority: int = 1) -> Row[Any]:
    def collect(values: dict[str, Floats]) -> dict[str, Any]:
        return {name: value.tolist() for name, value in values.items()}

    return Row(np.array(ids), 0, OUTPUTS, read or collect, priority)


ids = st.lists(st.integers(1, 665), min_size=1, max_size=12)


@given(st.lists(ids, min_size=1, max_size=20))
def test_each_row_reads_its_own_outputs_without_padding(many: list[list[int]]) -> None:
    for given_ids, answer in zip(many, run_rows(Echo(), [row(one) for one in many])[0], strict=True):
        assert [value for (value,) in answer["pos_logits"]] == given_ids
        assert np.shape(answer["arc_scores"]) == (len(given_ids), len(given_ids))
        assert answer["cls_logits"] == [sum(given_ids)]


@given(st.lists(ids, max_size=8), st.lists(ids, max_size=8))
def test_only_the_guilty_row_of_a_failing_batch_fails(before: list[list[int]], after: list[list[int]]) -> None:
    answers = run_rows(Echo(), [row(one) for one in [*before, [1, 666], *after]])[0]
    assert isinstance(answers.pop(len(before)), InferenceError)
    assert [[value for (value,) in answer["pos_logits"]] for answer in answers] == [*before, *after]


def test_a_row_whose_reading_fails_fails_alone() -> None:
    def broken(values: dict[str, Floats]) -> None:
        raise ValueError("unreadable")

    first, second, third = run_rows(Echo(), [row([1]), row([2], broken), row([3])])[0]
    assert first["cls_logits"] == [1] and third["cls_logits"] == [3]
    assert isinstance(second, InferenceError) and "unreadable" in str(second)


@given(st.lists(ids, min_size=1, max_size=30), st.integers(1, 4))
def test_all_submitted_rows_are_answered(many: list[list[int]], parallel: int) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(parallel) as executor:
            batcher = Batcher(Echo(), executor, parallel, BatchLimits(tokens=40, rows=4))
            done = await asyncio.gather(*(batcher.submit(row(one)) for one in many))
            assert [one.value["cls_logits"] for one in done] == [[sum(one)] for one in many]
            assert all(one.queued >= 0 and one.computed >= 0 for one in done)

    asyncio.run(main())


def test_a_row_whose_output_is_not_finite_fails_alone() -> None:
    class Broken(Echo):
        def run(self, ids: Ints, mask: Ints, predicates: Ints, outputs: tuple[str, ...]) -> dict[str, Floats]:
            found = super().run(ids, mask, predicates, outputs)
            found["pos_logits"][1, 0] = np.nan
            return found

    first, second, third = run_rows(Broken(), [row([1]), row([2]), row([3])])[0]
    assert first["cls_logits"] == [1] and third["cls_logits"] == [3]
    assert isinstance(second, InferenceError) and "pos_logits" in str(second)


def test_rows_that_cannot_be_run_at_all_fail_and_nobody_waits_for_ever() -> None:
    async def main() -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        batcher = Batcher(Echo(), executor, 1, BatchLimits())
        answers = await asyncio.gather(*(batcher.submit(row([n])) for n in (1, 2)), return_exceptions=True)
        assert all(isinstance(answer, InferenceError) for answer in answers)

    asyncio.run(main())


def test_rows_whose_caller_has_gone_are_not_run() -> None:
    async def main() -> None:
        echo = Echo()
        echo.gate = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(echo, executor, 1, BatchLimits(rows=1))
            running = asyncio.create_task(batcher.submit(row([1])))
            leaving = asyncio.create_task(batcher.submit(row([2])))
            staying = asyncio.create_task(batcher.submit(row([3])))
            await asyncio.sleep(0)
            leaving.cancel()
            echo.gate.set()
            await asyncio.gather(running, staying)
            assert [batch.tolist() for batch in echo.batches] == [[[1]], [[3]]]

    asyncio.run(main())


def test_the_more_urgent_of_the_waiting_rows_runs_first() -> None:
    async def main() -> None:
        echo = Echo()
        echo.gate = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(echo, executor, 1, BatchLimits(rows=1))
            tasks = [asyncio.create_task(batcher.submit(row([9])))]
            await asyncio.sleep(0)
            tasks += [asyncio.create_task(batcher.submit(row([p], priority=p))) for p in (3, 1, 2)]
            await asyncio.sleep(0)
            echo.gate.set()
            await asyncio.gather(*tasks)
            assert [batch[0, 0] for batch in echo.batches] == [9, 1, 2, 3]

    asyncio.run(main())
