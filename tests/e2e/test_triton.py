"""Triton's own client against the real server."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tests.e2e.conftest import REPOSITORY, ROOT, Server, StartServer
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

OUTPUTS = ("pos_logits", "ner_logits", "arc_scores", "label_scores", "srl_logits", "cls_logits")
ROWS = [[1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 11, 12]]


@pytest.fixture
def client(tiny_server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(tiny_server.target) as opened:
        yield opened


def tensors(rows: list[list[int]]) -> list[triton.InferInput]:
    """Rows of ids, padded to the longest; the second subword is the predicate."""
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    inputs = []
    for name, values in zip(
        ("input_ids", "attention_mask", "predicate_idx"), (ids, mask, np.ones(len(rows), dtype=np.int64)), strict=True
    ):
        inputs.append(triton.InferInput(name, values.shape, "INT64"))
        inputs[-1].set_data_from_numpy(values)
    return inputs


def alone(graph: Path, row: list[int]) -> dict[str, Any]:
    """What a plain session gives one row without padding."""
    session = ort.InferenceSession(graph)
    feed = {
        "input_ids": np.array([row]),
        "attention_mask": np.ones((1, len(row)), dtype=np.int64),
        "predicate_idx": np.array([1]),
    }
    return {name: value[0] for name, value in zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True)}


def check(result: triton.InferResult, place: int, expected: dict[str, Any], names: tuple[str, ...] = OUTPUTS) -> None:
    assert tuple(output.name for output in result.get_response().outputs) == names
    for name in names:
        own = tuple(slice(size) for size in expected[name].shape)
        np.testing.assert_allclose(result.as_numpy(name)[place][own], expected[name], atol=1e-4, rtol=1e-4)


def test_the_server_tells_of_itself_and_its_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert (server.name, "statistics" in server.extensions) == ("kniv-serve", True)
    assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2") and not client.is_model_ready("nope")
    assert [one.name for one in client.get_model_metadata("tiny").outputs] == list(OUTPUTS)
    assert client.get_model_config("tiny").config.name == "tiny"
    (entry,) = client.get_model_repository_index().models
    assert (entry.name, entry.version, entry.state) == ("tiny", "1", "READY")


def test_raw_tensors_get_what_a_plain_session_gives(
    client: triton.InferenceServerClient, tiny_repository: Path
) -> None:
    before = client.get_inference_statistics("tiny").model_stats[0].inference_count
    result = client.infer(
        "tiny", tensors(ROWS), request_id="r1", priority=1, timeout=60_000_000, parameters={"variant": "fp32"}
    )
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("r1", "tiny", "1")
    for place, row in enumerate(ROWS):
        check(result, place, alone(tiny_repository / "tiny" / "1" / "cascade.onnx", row))
    assert client.get_inference_statistics("tiny").model_stats[0].inference_count >= before + len(ROWS)


def test_a_stream_answers_in_order_and_outlives_bad_requests(
    client: triton.InferenceServerClient, tiny_repository: Path
) -> None:
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    wanted = [triton.InferRequestedOutput("cls_logits")]
    for place, row in enumerate(ROWS):
        fp32 = {"variant": "fp32"}
        client.async_stream_infer("tiny", tensors([row]), request_id=str(place), outputs=wanted, parameters=fp32)
        client.async_stream_infer("tiny", tensors([[-5]]), request_id="bad")
    client.stop_stream()
    for place, row in enumerate(ROWS):
        result, error = answers.get_nowait()
        assert error is None
        assert result.get_response().id == str(place)
        assert result.get_response().parameters["triton_final_response"].bool_param
        check(result, 0, alone(tiny_repository / "tiny" / "1" / "cascade.onnx", row), ("cls_logits",))
        result, error = answers.get_nowait()
        assert result is None and "input_ids" in error.message()
    assert answers.empty()


def test_the_asyncio_client_calls_and_streams(tiny_server: Server, tiny_repository: Path) -> None:
    expected = [alone(tiny_repository / "tiny" / "1" / "cascade.onnx", row) for row in ROWS]
    fp32 = {"variant": "fp32"}

    async def main() -> None:
        async with triton_aio.InferenceServerClient(tiny_server.target) as client:
            calls = [client.infer("tiny", tensors([row]), parameters=fp32) for row in ROWS]
            for result, right in zip(await asyncio.gather(*calls), expected, strict=True):
                check(result, 0, right)

            async def requests() -> AsyncIterator[dict[str, Any]]:
                for row in ROWS:
                    yield {"model_name": "tiny", "inputs": tensors([row]), "parameters": fp32}
                yield {"model_name": "nope", "inputs": tensors([[1]])}

            *answers, (nothing, error) = [answer async for answer in client.stream_infer(requests())]
            for (result, problem), right in zip(answers, expected, strict=True):
                assert problem is None
                check(result, 0, right)
            assert nothing is None and "'nope'" in error.message()

    asyncio.run(main())


def test_what_is_wrong_has_its_status(client: triton.InferenceServerClient, tiny_server: Server) -> None:
    def refused(code: grpc.StatusCode, said: str) -> Any:
        return pytest.raises(InferenceServerException, match=rf"\[{code}\].*{said}")

    with refused(grpc.StatusCode.NOT_FOUND, "'nope'"):
        client.infer("nope", tensors(ROWS))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "attention_mask"):
        client.infer("tiny", tensors(ROWS)[:1])
    with refused(grpc.StatusCode.UNIMPLEMENTED, "no sequences"):
        client.infer("tiny", tensors(ROWS), sequence_id=5, sequence_start=True)
    with refused(grpc.StatusCode.UNIMPLEMENTED, "shared memory is not served"):
        client.get_system_shared_memory_status()
    with refused(grpc.StatusCode.UNIMPLEMENTED, "shared memory is not served"):
        client.register_cuda_shared_memory("region", b"", 0, 8)
    with refused(grpc.StatusCode.UNIMPLEMENTED, "started with --otlp-endpoint"):
        client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "--model-control-mode explicit"):
        client.load_model("tiny")
    with grpc.insecure_channel(tiny_server.target) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as failure:
            call(b"\xff", timeout=60)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_every_call_of_the_protocol_is_served(tiny_server: Server) -> None:
    with grpc.insecure_channel(tiny_server.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
            request = getattr(service_pb2, call.input_type.name)()
            try:
                answer = getattr(stub, call.name)(iter([request]) if call.client_streaming else request, timeout=60)
                if call.client_streaming:
                    answer = list(answer)
            except grpc.RpcError as error:
                assert error.code() != grpc.StatusCode.UNIMPLEMENTED or "SharedMemory" in call.name, call.name
                assert "Method not found" not in (error.details() or ""), call.name
            else:
                assert answer is not None


def test_administrators_alone_load_models_and_the_example_shows_it_all(
    start_server: StartServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("let-me-in\n")
    flags = ("--model-repository", str(REPOSITORY), "--model-control-mode", "explicit")
    server = start_server(*flags, "--admin-token-file", str(token))
    with triton.InferenceServerClient(server.target) as client:
        assert client.is_server_ready() and not client.is_model_ready("kniv-mini")
        assert client.get_log_settings().settings["log_info"].bool_param
        for headers in (None, {"authorization": "Bearer wrong"}):
            for call in (
                lambda h: client.load_model("kniv-mini", headers=h),
                lambda h: client.unload_model("kniv-mini", headers=h),
                lambda h: client.update_log_settings({"log_verbose_level": 1}, headers=h),
            ):
                with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                    call(headers)
        right = {"authorization": "Bearer let-me-in"}
        assert client.update_log_settings({"log_verbose_level": 1}, headers=right).settings["log_info"].bool_param
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "triton_client.py"), server.target]
    command += ["--admin-token-file", str(token)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {"in the repository: kniv-mini 1 UNAVAILABLE", "loaded: kniv-mini, versions 1"} <= set(lines)
    acts = next(line.removeprefix("one call: ") for line in lines if line.startswith("one call: "))
    assert f"asyncio: {acts}" in lines and f"asyncio, streamed: {acts}" in lines
    assert [line.rsplit(" -> ", 1)[1] for line in lines if line.startswith("streamed: ")] == acts.split(", ")
    assert lines[-1] == "unloaded: ready False"
