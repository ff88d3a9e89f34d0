"""The GPU and what drives it; or the CPU, where a dry run is asked for."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Literal

import onnxruntime as ort
from onnxruntime.capi import build_and_package_info

_QUERY = ("name", "driver_version", "memory.total")


@dataclass(frozen=True, slots=True)
class Device:
    """Where everything runs: ``cuda`` or, in a dry run, ``cpu``."""

    kind: Literal["cuda", "cpu"]

    def session(self, path: str, options: dict[str, str]) -> ort.InferenceSession:
        """A session here.

        Args:
            path: of the graph.
            options: of the CUDA provider.

        Raises:
            RuntimeError: ONNX Runtime would run on another device.
        """
        setup = ort.SessionOptions()
        setup.log_severity_level = 4
        if self.kind == "cpu":
            setup.intra_op_num_threads = 1
            return ort.InferenceSession(path, setup, providers=["CPUExecutionProvider"])
        providers: list[Any] = [("CUDAExecutionProvider", options), "CPUExecutionProvider"]
        session = ort.InferenceSession(path, setup, providers=providers)
        if "CUDAExecutionProvider" not in session.get_providers():
            raise RuntimeError("ONNX Runtime could not load its CUDA provider")
        return session


def gpu() -> dict[str, str] | None:
    """Name, driver and memory of the first GPU; None if there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    if told.returncode or not told.stdout.strip():
        return None
    return parsed(told.stdout)


def parsed(told: str) -> dict[str, str]:
    """The first line of nvidia-smi's table."""
    cells = [cell.strip() for cell in told.strip().splitlines()[0].split(",")]
    return dict(zip(("gpu", "driver", "memory"), cells, strict=True))


def runtime() -> dict[str, str]:
    """Versions that the figures depend on."""
    return {"onnxruntime": ort.__version__, "cuda": str(getattr(build_and_package_info, "cuda_version", "none"))}
