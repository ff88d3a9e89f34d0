"""``kniv-train``: fit, export, quantise and evaluate cascades."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from kniv.server.repository.labels import Labels
    from kniv.training.cascade import Cascade
    from kniv.training.fit import FitConfig

app = typer.Typer(help="Train, export, quantise and evaluate kniv cascades.", no_args_is_help=True)

Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


class Split(StrEnum):
    """Which split of the evaluation data."""

    dev = "dev"
    test = "test"


class Recipe(StrEnum):
    """How to quantise."""

    fixed = "fixed"
    rowwise = "rowwise"
    published = "published"


class Size(StrEnum):
    """Shapes of the published family."""

    xsmall = "xsmall"
    small = "small"
    large = "large"


Data = Annotated[Path, typer.Option(help="Folder of training data (see docs/training.md).", exists=True)]
Run = Annotated[Path, typer.Option(help="Folder of this run; a run found there is resumed.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]


@app.command()
def fit(
    data: Data,
    output: Run,
    encoder: Annotated[
        Path | None, typer.Option(help="Uncased BERT-family encoder to start from; MiniLM-L6-H384 by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Passes over the training mixture.")] = 7,
    seed: Seed = 17,
    threads: Threads = 2,
    device: Device = "cpu",
) -> None:
    """Fit kniv-mini, with a checkpoint every 500 steps and dev figures after every round."""
    from kniv.server.repository.labels import Labels
    from kniv.training.fit import FitConfig
    from kniv.training.mini import minilm_folder, new_mini

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    labels = Labels.load(data / "labels.json")
    model, tokenizer = new_mini(labels, encoder or minilm_folder())
    _fit(model, labels, tokenizer, data, output, FitConfig(rounds=rounds, seed=seed), device)


@app.command()
def refine(
    start: Annotated[Path, typer.Option(help="Folder that `fit` wrote.", exists=True)],
    data: Data,
    output: Run,
    deberta: Annotated[
        bool, typer.Option("--deberta", help="Put DeBERTa's relative positions in place of absolute ones and fit them.")
    ] = False,
    seed: Seed = 17,
    threads: Threads = 2,
    device: Device = "cpu",
) -> None:
    """Fit a checkpoint a little further: for the sake of its open-chat dialog acts, or as a DeBERTa."""
    from kniv.training.checkpoint import load_model
    from kniv.training.fit import REFINE, RELATIVE
    from kniv.training.package import START, training_facts
    from kniv.training.relative import with_relative_positions

    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    (output / START).write_text(json.dumps(training_facts(start), indent=1) + "\n", encoding="utf-8")
    model, labels, tokenizer = load_model(start)
    torch.manual_seed(seed)
    if deberta:
        model = with_relative_positions(model)
    _fit(model, labels, tokenizer, data, output, replace(RELATIVE if deberta else REFINE, seed=seed), device)


def _fit(
    model: Cascade, labels: Labels, tokenizer: Tokenizer, data: Path, output: Path, config: FitConfig, device: str
) -> None:
    from kniv.training.corpus import load_corpus
    from kniv.training.evaluate import Evaluation, Gold
    from kniv.training.fit import fit as run
    from kniv.training.predict import TorchPredictor
    from kniv.training.rows import RowEncoder

    rows = RowEncoder(tokenizer)
    with _progress() as progress:
        progress.add_task("reading the corpus", total=None)
        corpus = load_corpus(data, labels, rows)
        dev = Evaluation(Gold.load(data, "dev", labels, every=5), labels, rows)
    run(model, corpus, labels, tokenizer, output, config, device, lambda model: dev.run(TorchPredictor(model)))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="Folder that `fit` wrote.", exists=True)],
    output: Annotated[Path, typer.Option(help="Version folder, e.g. model_repository/kniv-mini/1.")],
) -> None:
    """Write cascade.onnx, tokenizer.json, labels.json and metadata.json of a checkpoint."""
    from kniv.training.package import package

    with _progress() as progress:
        progress.add_task(f"exporting {checkpoint}", total=None)
        package(checkpoint, output)


@app.command()
def quantise(
    model: Annotated[Path, typer.Option(help="Version folder with a cascade.onnx.", exists=True)],
    recipe: Annotated[
        Recipe,
        typer.Option(help="fixed: fixed ranges; rowwise: a scale a subword; published: quantize_dynamic."),
    ] = Recipe.fixed,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of training data on which `fixed` finds ranges; else the text that is shipped."),
    ] = None,
) -> None:
    """Write cascade-int8.onnx beside a folder's cascade.onnx."""
    from kniv.training.calibrate import training_feeds
    from kniv.training.package import FP32, INT8, record_checksum
    from kniv.training.quantise import quantise as run

    with _progress() as progress:
        progress.add_task(f"quantising {model / FP32}", total=None)
        run(model / FP32, model / INT8, recipe.value, training_feeds(data, model) if data else None)
        record_checksum(model, INT8)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Checkpoint folder, version folder or model of a repository.")],
    data: Annotated[Path, typer.Option(help="Folder of evaluation data.")] = Path("../shared/data"),
    split: Annotated[Split, typer.Option(help="Which split.")] = Split.test,
    fp32: Annotated[
        Path | None, typer.Option(help="Checkpoint folder or graph for the FP32 column, if the model ships none.")
    ] = None,
    record: Annotated[bool, typer.Option(help="Note the test figures in the model's metadata.json.")] = False,
    threads: Threads = 1,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Score a model on the public test sets, FP32 beside INT8."""
    from kniv.training.evaluate import Gold, baseline
    from kniv.training.package import record_metrics
    from kniv.training.report import evaluate_model, open_model, table

    if not data.is_dir():
        raise typer.BadParameter(f"no such folder: {data}", param_hint="--data")
    if record and split is not Split.test:
        raise typer.BadParameter("only figures of the test split are recorded", param_hint="--record")
    torch.set_num_threads(threads)
    try:
        opened = open_model(model, fp32, threads)
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error), param_hint="--model") from error
    gold = Gold.load(data, split.value, opened.labels)
    with _progress() as progress:
        task = progress.add_task(f"evaluating {model}", total=len(gold) * len(opened.variants))
        figures = evaluate_model(opened, gold, lambda rows: progress.advance(task, rows))
    spacy = baseline(gold)
    Console().print(table(figures, opened.recorded, spacy))
    if record:
        for variant, found in figures.items():
            record_metrics(opened.folder, variant, found)
    if as_json:
        line = {"fp32": figures.get("fp32", opened.recorded), "int8": figures.get("int8", {})}
        typer.echo(json.dumps(line if spacy is None else line | {"baseline": {"ner_spacy": spacy}}))


@app.command()
def reference(
    size: Annotated[Size, typer.Option(help="Which member of the published family.")],
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    seed: Seed = 17,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder whose tokenizer.json is copied along.")] = None,
    int8: Annotated[bool, typer.Option(help="Write the INT8 graph too, by the published recipe.")] = True,
) -> None:
    """Write a cascade of a published shape with random weights: what benchmarks run."""
    from kniv.training.reference import write_reference

    with _progress() as progress:
        progress.add_task(f"writing {output}", total=None)
        write_reference(size.value, output, seed, tokenizer, int8)


def _progress() -> Progress:
    """A progress bar on standard error, so that standard output stays the answer alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
