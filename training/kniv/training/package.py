"""A version folder of the model repository, made from a checkpoint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kniv.training.cascade import HEADS, parameter_count
from kniv.training.checkpoint import load_model
from kniv.training.export import OPSET, export_graph
from kniv.training.rows import MAX_PREVIOUS, MAX_SUBWORDS

FP32, INT8, METADATA = "cascade.onnx", "cascade-int8.onnx", "metadata.json"
START = "start.json"  # in a run's folder: the facts of the run whose checkpoint it started from
TASKS = {"pos": "UPOS", "ner": "entities", "dep": "dependencies", "srl": "semantic roles", "cls": "dialog act"}


def package(checkpoint: Path, output: Path) -> None:
    """Write cascade.onnx, tokenizer.json, labels.json and metadata.json of ``checkpoint`` to ``output``.

    Figures and checksums of graphs that the folder held before are dropped: they were another model's.

    Args:
        output: version folder, e.g. ``model_repository/kniv-mini/1``; the model is named after its parent.

    Raises:
        FileNotFoundError: a file of the checkpoint is absent.
    """
    model, labels, tokenizer = load_model(checkpoint)
    output.mkdir(parents=True, exist_ok=True)
    (output / INT8).unlink(missing_ok=True)
    export_graph(model, output / FP32)
    tokenizer.save(str(output / "tokenizer.json"), pretty=False)
    (output / "labels.json").write_text(labels.to_json(), encoding="utf-8")
    facts: dict[str, Any] = {
        "name": output.absolute().parent.name if output.name.isdigit() else output.name,
        "languages": ["en"],
        "tasks": {head: TASKS[head] for head in HEADS},
        "max_subwords": MAX_SUBWORDS,
        "max_previous_subwords": MAX_PREVIOUS,
        "max_context_turns": 1,
        "opset": OPSET,
        "parameters": parameter_count(model),
        "training": training_facts(checkpoint),
    }
    write_metadata(output, facts)
    record_checksum(output, FP32)


def read_metadata(folder: Path) -> dict[str, Any]:
    """The folder's metadata; empty if it has none."""
    path = folder / METADATA
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write_metadata(folder: Path, facts: dict[str, Any]) -> None:
    """Replace the folder's metadata."""
    (folder / METADATA).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def record_checksum(folder: Path, name: str) -> None:
    """Note the SHA-256 of one of the folder's graphs in its metadata."""
    facts = read_metadata(folder)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    write_metadata(folder, facts | {"sha256": {**facts.get("sha256", {}), name: digest}})


def record_metrics(folder: Path, variant: str, metrics: dict[str, float]) -> None:
    """Note what an evaluation on the test sets found for one variant ("fp32" or "int8")."""
    facts = read_metadata(folder)
    rounded = {name: round(value, 4) for name, value in metrics.items()}
    write_metadata(folder, facts | {"metrics": {**facts.get("metrics", {}), variant: rounded}})


def training_facts(checkpoint: Path) -> dict[str, Any]:
    """Seed, rounds and steps of the run that made a checkpoint, and of the one it started from, as far as it says."""
    facts: dict[str, Any] = {}
    config = checkpoint / "fit.json"
    if config.exists():
        given = json.loads(config.read_text(encoding="utf-8"))
        facts |= {"seed": given["seed"], "rounds": given["rounds"]}
    metrics = checkpoint / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    steps = [record for record in map(json.loads, lines) if "step" in record]
    if steps:
        facts |= {"steps": steps[-1]["step"], "of_steps": steps[-1]["of"]}
    if (checkpoint / START).exists():
        facts["start"] = json.loads((checkpoint / START).read_text(encoding="utf-8"))
    return facts
