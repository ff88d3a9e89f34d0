"""Evaluating a model as it lies on disk: which graph is which, and the table of what it scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from tokenizers import Tokenizer

from kniv.server.repository.labels import Labels
from kniv.training.checkpoint import load_model
from kniv.training.evaluate import Evaluation, Gold
from kniv.training.package import FP32, INT8, read_metadata
from kniv.training.predict import GraphPredictor, Predictor, TorchPredictor
from kniv.training.rows import RowEncoder

FIGURES = {
    "pos": "POS accuracy",
    "uas": "UAS",
    "las": "LAS",
    "srl": "SRL F1, verbs",
    "srl_root": "SRL F1, roots",
    "ner": "NER F1, PER/ORG/LOC",
    "cls": "dialog acts, macro F1",
    "cls_open": "dialog acts, open chat, macro F1",
    "dailydialog": "DailyDialog accuracy, 8 to 4",
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model on disk.

    Attributes:
        folder: checkpoint or version folder.
        variants: what can be run, by "fp32" and "int8".
        recorded: FP32 figures of an earlier full evaluation, where FP32 itself is not at hand.
    """

    folder: Path
    labels: Labels
    tokenizer: Tokenizer
    variants: dict[str, Predictor]
    recorded: dict[str, float]


def open_model(path: Path, fp32: Path | None = None, threads: int = 1) -> Model:
    """Find what can be evaluated at ``path``.

    Args:
        path: a checkpoint folder, a version folder, or a model of a repository (its newest version is taken).
        fp32: checkpoint folder or graph to stand for FP32, where ``path`` does not hold one.
        threads: ONNX Runtime's threads.

    Raises:
        FileNotFoundError: there is nothing to evaluate.
    """
    if (path / "model.pt").exists():
        model, labels, tokenizer = load_model(path)
        return Model(path, labels, tokenizer, {"fp32": TorchPredictor(model)}, {})
    folder = _version(path)
    graphs = {"fp32": folder / FP32, "int8": folder / INT8}
    variants: dict[str, Predictor] = {
        name: GraphPredictor(graph, threads) for name, graph in graphs.items() if graph.exists()
    }
    if fp32 is not None:
        variants["fp32"] = GraphPredictor(fp32, threads) if fp32.is_file() else TorchPredictor(load_model(fp32)[0])
    recorded = {} if "fp32" in variants else read_metadata(folder).get("metrics", {}).get("fp32", {})
    labels = Labels.load(folder / "labels.json")
    return Model(folder, labels, Tokenizer.from_file(str(folder / "tokenizer.json")), variants, recorded)


def evaluate_model(model: Model, gold: Gold, advance: Callable[[int], None]) -> dict[str, dict[str, float]]:
    """Figures of every variant that can be run, "fp32" first."""
    evaluation = Evaluation(gold, model.labels, RowEncoder(model.tokenizer), advance)
    return {name: evaluation.run(model.variants[name]) for name in ("fp32", "int8") if name in model.variants}


def table(figures: dict[str, dict[str, float]], recorded: dict[str, float], baseline: float | None) -> Table:
    """The figures as a table, one row a figure, in percent."""
    shown = Table()
    columns = {"FP32 (recorded)": recorded, "INT8": figures.get("int8", {})}
    if "fp32" in figures or not recorded:
        columns = {"FP32": figures.get("fp32", {}), "INT8": figures.get("int8", {})}
    shown.add_column("figure")
    for name in columns:
        shown.add_column(name, justify="right")
    for key, title in FIGURES.items():
        if any(key in column for column in columns.values()):
            shown.add_row(title, *(_percent(column.get(key)) for column in columns.values()))
    if baseline is not None:
        shown.add_row("NER F1 of spaCy's en_core_web_sm", _percent(baseline), "")
    return shown


def _version(path: Path) -> Path:
    """The folder that holds the graphs: ``path`` or its newest numbered folder."""
    versions = [entry for entry in path.iterdir() if entry.name.isdigit()] if path.is_dir() else []
    newest = [path, *sorted(versions, key=lambda entry: int(entry.name), reverse=True)]
    for folder in newest:
        if (folder / FP32).exists() or (folder / INT8).exists():
            return folder
    raise FileNotFoundError(f"{path} holds neither model.pt nor {FP32} nor {INT8}, itself or in a numbered folder")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
