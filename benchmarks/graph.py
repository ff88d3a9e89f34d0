"""What the graph passes gain: the published graph against ours, in FP32 and INT8, in turns.

    python benchmarks/graph.py                  # every shape, with PyTorch: some minutes
    QUICK=1 python benchmarks/graph.py          # under 50 s
    python benchmarks/graph.py --write docs     # the table, the picture and the figures of docs/performance.md

Weights are random, at the shape of the published small model or of kniv-mini: times do not depend on their values.
Every figure is the median of paired ratios of runs taken in turns, so that a busy machine slows both sides. On one
thread the thread's own CPU time is counted, on more the wall's. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from kniv.server.graphs import arcs, attention, mixes, relations
from kniv.server.graphs.files import write_model
from kniv.server.graphs.pipeline import PASSES, optimise, optimise_file

QUICK = bool(os.environ.get("QUICK"))
SHAPES = ((1, 24), (1, 64), (1, 128), (8, 24), (8, 64), (32, 24), (32, 128))
QUICK_SHAPES = ((1, 24), (1, 64), (8, 24), (8, 64))
MEMORY_SHAPE = (32, 128)
PREDICATES = 4.7  # verbs a sentence in real chats
WORDS, ROLES, ACTS = ((1, 1, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1))
VARIANTS = ("published FP32", "published INT8", "ours FP32", "ours INT8")
# ONNX Runtime's fused residual and norm is slower on CPUs than the two operators that it replaces.
DISABLED = ["SkipLayerNormFusion"]

Feed = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Times:
    """Seconds of each run of each kind, taken in turns, at one shape."""

    shape: tuple[int, int]
    seconds: dict[str, NDArray[np.float64]]

    def ratio(self, slow: str, fast: str) -> float:
        return float(np.median(self.seconds[slow] / self.seconds[fast]))


def build(folder: Path, size: str) -> dict[str, Path]:
    """Write the four variants; the published ones as the published scripts make them."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from kniv.training.calibrate import ranges

    paths = {name: folder / f"{size}-{name.replace(' ', '-').lower()}.onnx" for name in VARIANTS}
    if all(path.exists() for path in paths.values()):
        return paths
    onnx.save(source(size), paths["published FP32"])
    quantize_dynamic(
        paths["published FP32"],
        paths["published INT8"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    optimise_file(paths["published FP32"], paths["ours FP32"])
    samples = [feed(1, 24, seed) for seed in range(4)]
    optimise_file(paths["published FP32"], paths["ours INT8"], lambda model, names: ranges(model, names, samples))
    return paths


def source(size: str) -> onnx.ModelProto:
    """The graph before any pass."""
    from kniv.training.published import PUBLISHED_SHAPES, published_graph

    if size != "mini":
        # Tokens that are looked up cost the same among fewer; the files are smaller and sooner made.
        shape = replace(PUBLISHED_SHAPES[size], vocabulary=16_000) if QUICK else PUBLISHED_SHAPES[size]
        return published_graph(shape)
    import torch
    from transformers import AutoModel, BertConfig

    from kniv.training.cascade import Cascade, CascadeConfig
    from kniv.training.export import export_graph
    from kniv.training.reference import CLASSES

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=28_000, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    encoder = AutoModel.from_config(config, attn_implementation="eager", add_pooling_layer=False)
    classes = CascadeConfig(CLASSES.pos, CLASSES.ner, CLASSES.srl, CLASSES.cls, CLASSES.deprel)
    with tempfile.TemporaryDirectory() as folder:
        export_graph(Cascade(encoder, classes), Path(folder) / "mini.onnx")
        return onnx.load(Path(folder) / "mini.onnx")


def feed(rows: int, length: int, seed: int = 0, tasks: tuple[int, ...] | None = None) -> Feed:
    ids = np.random.default_rng(seed).integers(5, 15_000, (rows, length))
    found: Feed = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "predicate_idx": np.ones(rows, dtype=np.int64),
    }
    return found if tasks is None else {**found, "tasks": np.array(tasks, dtype=bool)}


def session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    disabled = DISABLED if "ours" in path.name else None
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)


def pytorch(size: str, threads: int) -> Callable[[Feed], object]:
    import torch

    from kniv.training.published import PUBLISHED_SHAPES, PublishedCascade
    from kniv.training.reference import reference

    torch.set_num_threads(threads)
    model = PublishedCascade(reference(PUBLISHED_SHAPES[size])).eval()

    def run(given: Feed) -> object:
        with torch.inference_mode():
            return model(*(torch.from_numpy(value) for value in given.values()))

    return run


def measure(paths: dict[str, Path], size: str, options: argparse.Namespace) -> Iterator[Times]:
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    sessions = {name: session(path, options.threads) for name, path in paths.items()}
    kinds: dict[str, tuple[Callable[[Feed], object], tuple[int, ...] | None]] = {
        name: (lambda given, running=running: running.run(None, given), None) for name, running in sessions.items()
    }
    for variant in ("FP32", "INT8"):
        running = kinds[f"ours {variant}"][0]
        kinds |= {f"{variant} words": (running, WORDS), f"{variant} roles": (running, ROLES)}
        kinds[f"{variant} acts"] = (running, ACTS)
    if options.pytorch and size != "mini":
        kinds["PyTorch"] = (pytorch(size, options.threads), None)
    for rows, length in options.shapes:
        feeds = {name: feed(rows, length, tasks=tasks) for name, (_, tasks) in kinds.items()}
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        begun = time.perf_counter()
        for (run, _), given in zip(kinds.values(), feeds.values(), strict=True):
            run(given)
        while len(taken["ours INT8"]) < 3 or time.perf_counter() - begun < options.seconds:
            for name, (run, _) in kinds.items():
                start = clock()
                run(feeds[name])
                taken[name].append(clock() - start)
        yield Times((rows, length), {name: np.array(values) for name, values in taken.items()})


def ablate(folder: Path, size: str, options: argparse.Namespace) -> str:
    """What each pass is worth: the INT8 graph made without it, over the whole one, as ratios of time."""
    from kniv.training.calibrate import ranges

    samples = [feed(1, 24, seed) for seed in range(4)]
    paths = {}
    for left_out in (None, attention, arcs, relations, mixes):
        path = folder / f"{size}-ours-without-{left_out.NAME if left_out else 'nothing'}.onnx"
        kept = tuple(step for step in PASSES if left_out is None or step is not left_out.apply)
        done = optimise(source(size), lambda model, names: ranges(model, names, samples), passes=kept)
        write_model(done.model, path)
        paths[left_out.NAME if left_out else "nothing"] = path
    sessions = {name: session(path, options.threads) for name, path in paths.items()}
    names = list(paths)[1:]
    lines = ["| rows x subwords | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for rows, length in options.shapes:
        given = feed(rows, length)
        taken: dict[str, list[float]] = {name: [] for name in sessions}
        begun = time.perf_counter()
        while len(taken["nothing"]) < 5 or time.perf_counter() - begun < options.seconds:
            for name, running in sessions.items():
                start = time.thread_time()
                running.run(None, given)
                taken[name].append(time.thread_time() - start)
        whole = np.array(taken["nothing"][1:])
        cells = [f"{float(np.median(np.array(taken[name][1:]) / whole)):.2f}" for name in names]
        lines.append(f"| {rows} x {length} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def peak(path: Path) -> float:
    """MB that loading a graph and one large run take, in a process of its own."""
    command = [sys.executable, __file__, "--peak", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_peak(path: Path) -> None:
    def kilobytes(what: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(what))

    before = kilobytes("VmRSS")
    session(path, 1).run(None, feed(*MEMORY_SHAPE))
    print((kilobytes("VmHWM") - before) / 1024)


def ratios(times: Times) -> dict[str, float]:
    """What one shape shows, the published graph's time over ours."""
    seconds = times.seconds
    found = {
        "FP32": times.ratio("published FP32", "ours FP32"),
        "INT8": times.ratio("published INT8", "ours INT8"),
    }
    for variant in ("FP32", "INT8"):
        found[f"{variant} words"] = times.ratio(f"published {variant}", f"{variant} words")
        found[f"{variant} acts"] = times.ratio(f"published {variant}", f"{variant} acts")
        # A sentence with k verbs is k + 1 full answers there; here a run of the word heads and k of the role head.
        ours = seconds[f"{variant} words"] + PREDICATES * seconds[f"{variant} roles"]
        found[f"{variant} roles"] = float(np.median((PREDICATES + 1) * seconds[f"published {variant}"] / ours))
    if "PyTorch" in seconds:
        found["over PyTorch"] = times.ratio("PyTorch", "ours FP32")
    return found


def mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def table(found: dict[tuple[int, int], dict[str, float]], times: list[Times]) -> str:
    names = list(next(iter(found.values())))
    lines = ["| rows x subwords | published INT8, ms | ours INT8, ms | " + " | ".join(names) + " |"]
    lines.append("|" + "---|" * (len(names) + 3))
    for one in times:
        rows, length = one.shape
        milliseconds = [1e3 * float(np.median(one.seconds[f"{side} INT8"])) for side in ("published", "ours")]
        cells = [f"{value:.1f}" for value in milliseconds] + [f"{found[one.shape][name]:.2f}" for name in names]
        lines.append(f"| {rows} x {length} | " + " | ".join(cells) + " |")
    means = [mean([row[name] for row in found.values()]) for name in names]
    return "\n".join([*lines, "| geometric mean | | | " + " | ".join(f"{value:.2f}" for value in means) + " |"])


def picture(found: dict[tuple[int, int], dict[str, float]], size: str) -> str:
    """Bars of the INT8 ratios by shape, as SVG."""
    kinds = {
        "INT8": ("all heads", "#4c78a8"),
        "INT8 roles": ("with 4.7 predicates", "#72b7b2"),
        "INT8 acts": ("dialog act", "#f58518"),
    }
    scale, bar, left = 110, 14, 70
    widest = max(row[kind] for row in found.values() for kind in kinds)
    height = 50 + len(found) * (len(kinds) * bar + 10)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + int(widest * scale) + 60}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<text x="4" y="14" font-size="13">INT8, {size}: times as fast as the published graph</text>',
    ]
    for place, (label, colour) in enumerate(kinds.values()):
        parts.append(f'<rect x="{4 + 140 * place}" y="22" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{18 + 140 * place}" y="31">{label}</text>')
    top = 42
    for (rows, length), row in found.items():
        parts.append(f'<text x="4" y="{top + 2 * bar - 3}">{rows} x {length}</text>')
        for kind, (_, colour) in kinds.items():
            parts.append(
                f'<rect x="{left}" y="{top}" width="{row[kind] * scale:.0f}" height="{bar - 2}" fill="{colour}"/>'
            )
            parts.append(f'<text x="{left + row[kind] * scale + 4:.0f}" y="{top + bar - 4}">{row[kind]:.2f}</text>')
            top += bar
        top += 10
    parts.append(f'<line x1="{left + scale}" y1="40" x2="{left + scale}" y2="{height}" stroke="#888"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def shapes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(rows), int(length)) for rows, length in (shape.split("x") for shape in text.split(",")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="small", choices=["xsmall", "small", "base", "large", "mini"])
    parser.add_argument("--shapes", type=shapes, default=QUICK_SHAPES if QUICK else SHAPES, help="like 1x24,8x64")
    parser.add_argument("--seconds", type=float, default=0.5 if QUICK else 10.0, help="least time a shape is measured")
    parser.add_argument("--threads", type=int, default=1, help="of one run; 0 for ONNX Runtime's choice")
    parser.add_argument("--pytorch", action=argparse.BooleanOptionalAction, default=not QUICK)
    parser.add_argument("--folder", type=Path, help="keep the graphs here, and use those that are here")
    parser.add_argument("--write", type=Path, help="folder that receives performance.json and performance.svg")
    parser.add_argument("--ablate", action="store_true", help="measure what each pass is worth instead")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        report_peak(options.peak)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        if options.ablate:
            print(ablate(folder, options.size, options))
            return
        paths = build(folder, options.size)
        times = list(measure(paths, options.size, options))
        memory = {name: peak(paths[name]) for name in (VARIANTS[1::2] if QUICK else VARIANTS)}
    found = {one.shape: ratios(one) for one in times}
    print(f"{options.size} shape, {options.threads or 'default'} threads, ONNX Runtime {ort.__version__}\n")
    print(table(found, times))
    print("\npeak memory at 32 x 128, MB: " + ", ".join(f"{name} {value:.0f}" for name, value in memory.items()))
    figures = {
        "int8_gmean": mean([row["INT8"] for row in found.values()]),
        "int8_worst": min(row["INT8"] for row in found.values()),
        "fp32_gmean": mean([row["FP32"] for row in found.values()]),
        "dialog_act_gmean": mean([row["INT8 acts"] for row in found.values()]),
        "memory_ratio": memory["ours INT8"] / memory["published INT8"],
    }
    figures = {name: round(value, 3) for name, value in figures.items()}
    if options.write:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        rows = {f"{b}x{s}": {k: round(v, 3) for k, v in row.items()} for (b, s), row in found.items()}
        whole = {
            **machine,
            "size": options.size,
            "threads": options.threads,
            "shapes": rows,
            "memory_mb": memory,
            **figures,
        }
        (options.write / f"performance-{options.size}.json").write_text(json.dumps(whole, indent=1) + "\n")
        (options.write / f"performance-{options.size}.svg").write_text(picture(found, options.size))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
