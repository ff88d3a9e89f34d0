"""Sweep of INT8 recipes: quality a head, agreement with FP32, and speed against the seed's recipe.

    python -m benchmarks.int8 --model MODEL --data ../shared/data            # MODEL holds cascade.onnx
    QUICK=1 python -m benchmarks.int8 --model MODEL --data ../shared/data    # a sample of the test sets: minutes
    python -m benchmarks.int8 ... --write benchmarks/results --name kniv-mini

Losses are FP32's figure minus the candidate's, in points; the figures are those of ``kniv-train evaluate``. Speed is
the seed recipe's time over the candidate's, all heads, medians of paired ratios of one thread's own processor time
(above 1 is faster), so that a busy machine slows both. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks.int8.candidates import SEED, Source, candidates
from benchmarks.int8.quality import Quality, same
from benchmarks.int8.speed import SHAPES, ratios
from benchmarks.int8.tables import markdown
from kniv.training.calibrate import training_feeds

QUICK = bool(os.environ.get("QUICK"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True, help="version folder with cascade.onnx")
    parser.add_argument("--data", type=Path, required=True, help="folder of public data")
    parser.add_argument("--every", type=int, default=8 if QUICK else 1, help="keep one test sentence in so many")
    parser.add_argument("--seconds", type=float, default=1.0 if QUICK else 15.0, help="of speed runs a shape")
    parser.add_argument("--only", nargs="*", help="names of candidates; all by default")
    parser.add_argument("--skip-quality", action="store_true", help="speed alone")
    parser.add_argument("--write", type=Path, help="folder that receives int8-NAME.json")
    parser.add_argument("--name", default="model", help="of the model, in the file that is written")
    parser.add_argument("--keep", type=Path, help="folder that keeps the graphs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        found = sweep(options, folder)
    print(markdown(found))
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        (options.write / f"int8-{options.name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"model": options.name, "candidates": found["candidates"]}))


def sweep(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All that is measured of one model."""
    exported = options.model / "cascade.onnx"
    source = Source.of(exported, folder, training_feeds(options.data, options.model))
    paths = {"FP32": exported}
    for name, make in candidates(source).items():
        if options.only and name not in (*options.only, SEED):
            continue
        paths[name] = folder / f"{name.replace(' ', '-').replace('/', '-').replace(',', '').replace('%', '')}.onnx"
        make(paths[name])
        print(f"made {name}", file=sys.stderr, flush=True)
    speed = ratios(paths, SEED, options.seconds)
    rows: dict[str, Any] = {
        name: {"mb": round(path.stat().st_size / 1e6, 1), "speed": speed[name]} for name, path in paths.items()
    }
    if not options.skip_quality:
        quality = Quality.load(options.model, options.data, options.every, 40 if QUICK else 400)
        exact, reference = quality.choices(exported), quality.figures(exported)
        for name, path in paths.items():
            figures = reference if name == "FP32" else quality.figures(path)
            rows[name]["figures"] = {head: round(value, 3) for head, value in figures.items()}
            rows[name]["loss"] = {head: round(reference[head] - figures[head], 3) for head in figures}
            rows[name]["same"] = {head: round(v, 3) for head, v in same(quality.choices(path), exact).items()}
            print(name, rows[name], file=sys.stderr, flush=True)
    return {
        "model": options.name,
        "machine": platform.processor() or platform.machine(),
        "onnxruntime": ort.__version__,
        "every": options.every,
        "shapes": ["x".join(map(str, shape)) for shape in SHAPES],
        "candidates": rows,
    }


if __name__ == "__main__":
    main()
