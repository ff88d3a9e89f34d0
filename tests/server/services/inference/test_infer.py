"""Raw requests against a real graph: through the scheduler, padded or not, they get what a plain session gives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tests.server.services.inference.conftest import Serving
from tests.server.services.inference.requests import row_request
from tritonclient.grpc import InferResult
from tritonclient.grpc import service_pb2 as pb

from kniv.server.errors import InvalidRequestError, NotFoundError, NotReadyError, OverloadedError
from kniv.server.models.control import ModelControl
from kniv.server.runtime.session import OUTPUTS
from kniv.server.scheduling.urgency import Urgency
from kniv.server.services.inference.infer import InferenceLimits, admit
from kniv.server.services.inference.room import Room
from kniv.server.services.inference.statistics import model_statistics

ROWS = [[1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 11, 12], [13]]
LIMITS = InferenceLimits()


async def infer(control: ModelControl, request: pb.ModelInferRequest, in_stream: bool = False) -> bytes:
    work = await admit(request, Urgency(), control.catalogue, LIMITS, Room(1 << 30))
    try:
        return await work.answer(in_stream)
    finally:
        work.release()


def test_rows_get_what_a_plain_session_gives_them_alone(serving: Serving[bytes], tiny: Path) -> None:
    predicates = [3, 0, 2, 0]
    request = row_request(ROWS, predicates)
    request.id = "seven"
    request.parameters["variant"].string_param = "fp32"

    async def main(control: ModelControl) -> bytes:
        await control.load("tiny")
        return await infer(control, request)

    response = pb.ModelInferResponse.FromString(serving(main))
    assert (response.id, response.model_name, response.model_version) == ("seven", "tiny", "3")
    assert response.parameters["variant"].string_param == "fp32"
    result, session = InferResult(response), ort.InferenceSession(tiny / "cascade.onnx")
    for place, (row, predicate) in enumerate(zip(ROWS, predicates, strict=True)):
        feed = {
            "input_ids": np.array([row]),
            "attention_mask": np.ones((1, len(row)), dtype=np.int64),
            "predicate_idx": np.array([predicate]),
        }
        for name, expected in zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True):
            got = result.as_numpy(name)[place]
            own = tuple(slice(size) for size in expected[0].shape)
            np.testing.assert_allclose(got[own], expected[0], atol=1e-4, rtol=1e-4)
            got = got.copy()
            got[own] = 0
            assert not got.any()


def test_in_a_stream_the_one_response_is_the_final_one(serving: Serving[bytes]) -> None:
    request = row_request([[1, 2]])
    request.outputs.add(name="cls_logits")

    async def main(control: ModelControl) -> bytes:
        await control.load("tiny")
        return await infer(control, request, in_stream=True)

    response = pb.ModelStreamInferResponse.FromString(serving(main)).infer_response
    assert response.parameters["triton_final_response"].bool_param
    assert response.parameters["variant"].string_param == "int8"
    assert [(one.name, list(one.shape)) for one in response.outputs] == [("cls_logits", [1, 8])]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (pb.ModelInferRequest(model_name="large"), NotFoundError, "'large'"),
        (pb.ModelInferRequest(model_version="2"), NotFoundError, "no version 2"),
        (pb.ModelInferRequest(model_version="two"), InvalidRequestError, "model_version"),
        (pb.ModelInferRequest(parameters={"variant": pb.InferParameter(string_param="fp8")}), NotFoundError, "'fp8'"),
        (
            pb.ModelInferRequest(parameters={"priority": pb.InferParameter(int64_param=9)}),
            InvalidRequestError,
            "1 .* 3",
        ),
        (pb.ModelInferRequest(outputs=[{"name": "logits"}]), InvalidRequestError, "'logits'"),
        (pb.ModelInferRequest(inputs=[{"name": "input_ids"}]), InvalidRequestError, "raw_input_contents"),
    ],
)
def test_a_request_at_fault_holds_no_version(
    serving: Serving[None], change: pb.ModelInferRequest, error: type[Exception], said: str
) -> None:
    request = row_request([[1, 2]])
    request.MergeFrom(change)

    async def main(control: ModelControl) -> None:
        await control.load("tiny")
        with pytest.raises(error, match=said):
            await admit(request, Urgency(), control.catalogue, LIMITS, Room(1 << 30))
        await asyncio.wait_for(control.catalogue.find("tiny").unused(), 30)

    serving(main)


def test_what_a_model_takes_is_bounded(serving: Serving[None]) -> None:
    async def main(control: ModelControl) -> None:
        await control.load("tiny")
        with pytest.raises(InvalidRequestError, match=r"input_ids.*5 rows; at most 4 a request"):
            await admit(row_request([[1]] * 5), Urgency(), control.catalogue, LIMITS, Room(1 << 30))
        longest = control.catalogue.find("tiny").opened.limits.max_subwords
        with pytest.raises(InvalidRequestError, match=f"input_ids.*at most {longest}"):
            await admit(row_request([[1] * (longest + 1)]), Urgency(), control.catalogue, LIMITS, Room(1 << 30))
        with pytest.raises(InvalidRequestError, match=r"outputs: they would take \d+ bytes; at most 1000 a response"):
            await admit(
                row_request([[1] * 9]),
                Urgency(),
                control.catalogue,
                InferenceLimits(response_bytes=1000),
                Room(1 << 30),
            )

    serving(main)


def test_answers_share_room_until_they_are_released(serving: Serving[None]) -> None:
    async def main(control: ModelControl) -> None:
        await control.load("tiny")
        request, room = row_request([[1, 2, 3]]), Room(1 << 30)
        size = (await admit(request, Urgency(), control.catalogue, LIMITS, room)).size
        room = Room(2 * size)
        first, second = [await admit(request, Urgency(), control.catalogue, LIMITS, room) for _ in range(2)]
        with pytest.raises(OverloadedError, match="response_bytes"):
            await admit(request, Urgency(), control.catalogue, LIMITS, room)
        waits = asyncio.ensure_future(admit(request, Urgency(patient=True), control.catalogue, LIMITS, room))
        await asyncio.sleep(0)
        assert not waits.done()
        first.release()
        first.release()  # a second time gives nothing back
        (await waits).release()
        second.release()
        await room.take(2 * size, patient=False)

    serving(main)


def test_a_request_runs_on_though_its_model_is_unloaded(serving: Serving[bytes]) -> None:
    async def main(control: ModelControl) -> bytes:
        await control.load("tiny")
        work = await admit(row_request([[1, 2, 3]]), Urgency(), control.catalogue, LIMITS, Room(1 << 30))
        loaded = control.catalogue.find("tiny")
        await control.unload("tiny")
        with pytest.raises(NotReadyError, match="unloaded"):
            await admit(row_request([[1, 2, 3]]), Urgency(), control.catalogue, LIMITS, Room(1 << 30))
        content = await work.answer(in_stream=False)
        work.release()
        await asyncio.wait_for(loaded.unused(), 30)
        return content

    assert pb.ModelInferResponse.FromString(serving(main)).outputs


def test_statistics_count_requests_rows_and_batches(serving: Serving[list[pb.ModelStatistics]]) -> None:
    async def main(control: ModelControl) -> list[pb.ModelStatistics]:
        await control.load("tiny")
        for rows in (ROWS, ROWS[:1]):
            await infer(control, row_request(rows))
        answers = [
            model_statistics(request, control.catalogue)
            for request in (
                pb.ModelStatisticsRequest(),
                pb.ModelStatisticsRequest(name="tiny"),
                pb.ModelStatisticsRequest(name="tiny", version="3"),
            )
        ]
        assert answers[0] == answers[1] == answers[2]
        with pytest.raises(NotFoundError):
            model_statistics(pb.ModelStatisticsRequest(name="tiny", version="1"), control.catalogue)
        with pytest.raises(NotFoundError):
            model_statistics(pb.ModelStatisticsRequest(name="large"), control.catalogue)
        await control.unload("tiny")
        assert not model_statistics(pb.ModelStatisticsRequest(name="tiny"), control.catalogue).model_stats
        return list(answers[0].model_stats)

    (counted,) = serving(main)
    assert (counted.name, counted.version, counted.inference_count) == ("tiny", "3", 5)
    stats = counted.inference_stats
    assert [one.count for one in (stats.success, stats.queue, stats.compute_infer, stats.fail)] == [2, 2, 2, 0]
    assert 0 < stats.compute_infer.ns < stats.success.ns
    assert counted.execution_count == sum(one.compute_infer.count for one in counted.batch_stats)
    assert sum(one.batch_size * one.compute_infer.count for one in counted.batch_stats) == counted.inference_count
    assert counted.last_inference > 1_700_000_000_000
    assert counted.response_stats["0"].success == stats.success
