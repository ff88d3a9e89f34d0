"""What the INT8 recipes cost and give: products, whole graphs, and answers beside padding.

    python benchmarks/int8.py --model model_repository/kniv-mini/1 --data ../shared/data

Times are ratios of interleaved runs on one ONNX Runtime thread, FP32 over the recipe (above 1 is
faster): the median of the paired ratios of the thread's own CPU time, so that a busy machine moves
both sides and waiting for it counts on neither. The folder needs
cascade.onnx (`kniv-train export`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from kniv.training.data.treebank import read_conllu
from kniv.training.export import INPUTS
from kniv.training.quantise import quantise
from kniv.training.rows import RowEncoder

PRODUCTS = ((384, 384), (384, 1536), (1536, 384))
ROWS = (24, 192, 512)
SHAPES = ((1, 24), (8, 24), (8, 64))
TAGGERS = ("pos_logits", "ner_logits", "arc_scores")

Runs = dict[str, Callable[[], object]]
Feed = dict[str, NDArray[np.int64]]


def session(model: Path | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    given = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def ratios(runs: Runs, repeats: int) -> dict[str, float]:
    """Median of the first run's time over each one's, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            begun = time.thread_time()
            run()
            times[name].append(time.thread_time() - begun)
    first = np.array(next(iter(times.values())))
    return {name: float(np.median(first / np.array(taken))) for name, taken in times.items()}


def one_product(weight: NDArray[np.float32]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def block_product(weight: NDArray[np.float32], block: int) -> bytes:
    """The product as com.microsoft.MatMulNBits: eight bits, a scale a block, integer arithmetic."""
    inner, columns = weight.shape
    blocks = weight.T.reshape(columns, inner // block, block)
    scales = np.abs(blocks).max(-1) / 127
    codes = (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8)
    model = one_product(weight)
    attributes = {"K": inner, "N": columns, "bits": 8, "block_size": block, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", ["x", "q", "s"], ["y"], domain="com.microsoft", **attributes)
    model.graph.node[0].CopyFrom(node)
    del model.graph.initializer[:]
    model.graph.initializer.extend([numpy_helper.from_array(codes, "q"), numpy_helper.from_array(scales, "s")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model.SerializeToString()


def products(folder: Path, repeats: int) -> Table:
    random = np.random.default_rng(0)
    table = Table("product", "rows", "published", "rowwise", "NBits 32", "NBits 64", "NBits 128")
    for inner, columns in PRODUCTS:
        weight = (random.standard_normal((inner, columns)) * 0.05).astype(np.float32)
        source = folder / "product.onnx"
        onnx.save(one_product(weight), source)
        sessions = {"fp32": session(source)}
        for recipe in ("published", "rowwise"):
            quantise(source, folder / "q.onnx", recipe)
            sessions[recipe] = session(folder / "q.onnx")
        sessions |= {f"NBits {block}": session(block_product(weight, block)) for block in (32, 64, 128)}
        for rows in ROWS:
            feed = {"x": random.standard_normal((rows, inner)).astype(np.float32)}
            found = ratios({name: lambda s=s, f=feed: s.run(None, f) for name, s in sessions.items()}, repeats)
            row = [f"{found[name]:.2f}" for name in list(sessions)[1:]]
            table.add_row(f"{inner} x {columns}", str(rows), *row)
    return table


def graphs(variants: dict[str, Path], repeats: int) -> Table:
    random = np.random.default_rng(0)
    table = Table("graph", "MB", *(f"{rows} x {length}" for rows, length in SHAPES))
    sessions = {name: session(path) for name, path in variants.items()}
    columns = []
    for rows, length in SHAPES:
        ids = random.integers(5, 20000, (rows, length))
        feed = dict(zip(INPUTS, (ids, np.ones_like(ids), np.ones(rows, dtype=np.int64)), strict=True))
        columns.append(ratios({name: lambda s=s, f=feed: s.run(None, f) for name, s in sessions.items()}, repeats))
    for name, path in variants.items():
        table.add_row(name, f"{path.stat().st_size / 1e6:.1f}", *(f"{column[name]:.2f}" for column in columns))
    return table


def agreement(variants: dict[str, Path], rows: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Table:
    """Words whose tags and best heads are the same alone as in a batch of eight padded to 128, in percent."""
    table = Table("graph", "same POS", "same entity tag", "same best head", "largest POS logit change")
    for name, path in variants.items():
        running, same, words, change = session(path), np.zeros(3), 0, 0.0
        for start in range(0, len(rows), 8):
            batch = rows[start : start + 8]
            together = running.run(list(TAGGERS), padded([ids for ids, _ in batch]))
            for place, (ids, first) in enumerate(batch):
                alone = running.run(list(TAGGERS), padded([ids], len(ids)))
                for index, (many, one) in enumerate(zip(together, alone, strict=True)):
                    same[index] += (many[place, first].argmax(-1) == one[0, first].argmax(-1)).sum()
                change = max(change, float(np.abs(together[0][place, first] - alone[0][0, first]).max()))
                words += len(first)
        table.add_row(name, *(f"{100 * count / words:.3f}" for count in same), f"{change:.4f}")
    return table


def padded(rows: list[NDArray[np.int64]], length: int = 128) -> Feed:
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return dict(zip(INPUTS, (ids, mask, np.zeros(len(rows), dtype=np.int64)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True, help="version folder with cascade.onnx")
    parser.add_argument("--data", type=Path, required=True, help="folder of evaluation data")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--sentences", type=int, default=400, help="sentences of UD EWT dev for the agreement")
    options = parser.parse_args()
    encoder = RowEncoder(Tokenizer.from_file(str(options.model / "tokenizer.json")))
    trees = read_conllu(options.data / "ud-ewt-r2.14" / "en_ewt-ud-dev.conllu.gz")[: options.sentences]
    console = Console()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        variants = {"fp32": options.model / "cascade.onnx"}
        for recipe in ("published", "rowwise"):
            variants[recipe] = folder / f"{recipe}.onnx"
            quantise(variants["fp32"], variants[recipe], recipe)
        console.print(products(folder, options.repeats))
        console.print(graphs(variants, options.repeats))
        console.print(agreement(variants, [encoder.words(tree.words) for tree in trees]))


if __name__ == "__main__":
    main()
