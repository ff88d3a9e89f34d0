"""One run in one way: from host memory, bound to device memory, or replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.gpu.device import Device
from benchmarks.graph.files import Feed

Job = Callable[[], object]

HOST, BOUND, CAPTURED = "host memory", "IO binding", "CUDA graph"
MODES = (HOST, BOUND, CAPTURED)


class SkippedError(Exception):
    """A cell of the table stays empty; says why."""


def onnx_job(path: str, device: Device, mode: str, given: Feed) -> Job:
    """A run of a graph.

    Raises:
        SkippedError: this device has no such way.
    """
    if mode == CAPTURED and device.kind == "cpu":
        raise SkippedError("CUDA graphs need a GPU")
    session = device.session(path, {"enable_cuda_graph": "1"} if mode == CAPTURED else {})
    if mode == HOST:
        return lambda: session.run(None, given)
    binding = session.io_binding()
    held: list[Any] = []  # device memory lives as long as its binding
    for name, value in given.items():
        held.append(ort.OrtValue.ortvalue_from_numpy(value, device.kind, 0))
        binding.bind_ortvalue_input(name, held[-1])
    for output, value in zip(session.get_outputs(), _shapes(path, device, given), strict=True):
        if not value.size:
            continue  # what was not asked for is empty, whatever rank it has otherwise
        # A CUDA graph writes to the addresses that it was captured with.
        held.append(ort.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype, device.kind, 0))
        binding.bind_ortvalue_output(output.name, held[-1])

    def run() -> object:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return held

    return run


def torch_job(model: Any, device: Device, mode: str, given: Feed) -> Job:
    """A run of a PyTorch model that lies on the device.

    Raises:
        SkippedError: this device has no such way.
    """
    import torch

    host = [torch.from_numpy(value) for value in given.values()]
    if mode == HOST:

        def run() -> object:
            with torch.inference_mode():
                return [output.cpu() for output in model(*(value.to(device.kind) for value in host))]

        return run
    there = [value.to(device.kind) for value in host]
    if mode == BOUND:
        return _settled(device, lambda: model(*there))
    if device.kind == "cpu":
        raise SkippedError("CUDA graphs need a GPU")
    return _settled(device, _captured(model, there).replay)


def _captured(model: Any, given: list[Any]) -> Any:
    """PyTorch's way: a few runs beside the main stream, then one that is recorded."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.inference_mode():
        for _ in range(3):
            model(*given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.inference_mode():
        model(*given)
    return graph


def _settled(device: Device, work: Job) -> Job:
    import torch

    def run() -> object:
        with torch.inference_mode():
            answer = work()
        if device.kind == "cuda":
            torch.cuda.synchronize()
        return answer

    return run


def _shapes(path: str, device: Device, given: Feed) -> list[np.ndarray]:
    values: list[np.ndarray] = device.session(path, {}).run(None, given)
    return values
