"""What this machine's products and memory reach at best: one ONNX Runtime product alone, numpy's, and a copy.

python -m benchmarks.graph.ceilings ROWS REPEATS
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from benchmarks.graph.parts import SMALL

_COPIED = 64 << 20  # numbers; far more than caches hold


def products() -> dict[str, tuple[int, int]]:
    """Inner and outer size of the encoder's products with weights."""
    hidden, inner = SMALL.hidden, SMALL.inner
    return {
        "Q, K, V": (hidden, 3 * hidden),
        "output": (hidden, hidden),
        "feed-forward, up": (hidden, inner),
        "feed-forward, down": (inner, hidden),
    }


def measure(rows: int, repeats: int) -> dict[str, Any]:
    """Operations a second on one thread of each product with so many rows, and bytes a second of a copy.

    A process of its own does it, as numpy's number of threads is settled when it is imported.
    """
    command = [sys.executable, "-m", __name__, str(rows), str(repeats)]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=alone).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def ceiling(found: dict[str, Any], kind: str) -> float:
    """Operations a second of all products of a layer together, each at its own best: ``fp32`` or ``int8``."""
    operations = {name: inner * outer for name, (inner, outer) in products().items()}
    return sum(operations.values()) / sum(operations[name] / found[kind][name] for name in operations)


def _main() -> None:
    rows, repeats = map(int, sys.argv[1:])
    random = np.random.default_rng(0)
    found: dict[str, Any] = {"rows": rows, "fp32": {}, "int8": {}, "numpy_fp32": {}}
    for name, (inner, outer) in products().items():
        operations = 2 * rows * inner * outer
        weight = random.standard_normal((inner, outer), dtype=np.float32)
        given = random.standard_normal((rows, inner), dtype=np.float32)
        codes = random.integers(0, 255, (rows, inner), dtype=np.uint8)
        jobs = {
            "fp32": _run(_float_product(weight), given),
            "int8": _run(_integer_product(random.integers(-127, 128, weight.shape, dtype=np.int8)), codes),
            "numpy_fp32": lambda given=given, weight=weight: given @ weight,
        }
        for kind, job in jobs.items():
            found[kind][name] = operations / _best(job, repeats)
    numbers = np.ones(_COPIED, dtype=np.float32)
    copy = np.empty_like(numbers)
    found["copy_bytes_per_s"] = 2 * numbers.nbytes / _best(lambda: np.copyto(copy, numbers), max(repeats // 3, 2))
    print(json.dumps(found))


def _best(job: Callable[[], object], repeats: int) -> float:
    job()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        job()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _run(model: ModelProto, given: NDArray[np.generic]) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": given})


def _float_product(weight: NDArray[np.float32]) -> ModelProto:
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], weight, TensorProto.FLOAT, {})


def _integer_product(weight: NDArray[np.int8]) -> ModelProto:
    node = helper.make_node(
        "MatMulIntegerToFloat", ["x", "w", "x_scale", "w_scale", "x_zero", "w_zero"], ["y"], domain="com.microsoft"
    )
    columns = weight.shape[1]
    others = {
        "x_scale": np.array(0.02, dtype=np.float32),
        "w_scale": np.full(columns, 0.01, dtype=np.float32),
        "x_zero": np.array(128, dtype=np.uint8),
        "w_zero": np.zeros(columns, dtype=np.int8),
    }
    return _model([node], weight, TensorProto.UINT8, others)


def _model(nodes: list[Any], weight: NDArray[np.generic], kind: int, others: dict[str, Any]) -> ModelProto:
    inner, columns = weight.shape
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", kind, ["m", inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", columns])],
        [numpy_helper.from_array(value, name) for name, value in ({"w": weight} | others).items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


if __name__ == "__main__":
    _main()
