"""``kniv-serve optimise``: graphs rewritten before a server loads them, with the proof that they answer alike."""

from __future__ import annotations

import sys
from pathlib import Path
from sys import float_info
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from kniv.server.commands.options import DEFAULT_REPOSITORY, Repository, told
from kniv.server.errors import RepositoryError, ServeError
from kniv.server.repository.layout import GRAPHS, find

if TYPE_CHECKING:
    from kniv.server.graphs.pipeline import Calibrate, Optimised

_EXACT = 1e-4  # allowed difference of graphs in FP32
_FEW = 100  # subword ids that every vocabulary has


def optimise(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_PATH", help="A model of the repository, a folder of graphs, or a graph.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="File for the rewritten graph; if not given, it is kept where the server looks.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Make cascade-fp16.onnx of cascade.onnx, for GPUs.")] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Make cascade-int8.onnx of cascade.onnx, with activations' ranges fixed beforehand."
        ),
    ] = False,
    model_repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Rewrite graphs to run faster with the same answers; show what each pass did, and how near the answers are.

    A server does so too when it first loads a graph. With --fp16 or --int8 a variant is written beside cascade.onnx;
    --int8 needs the training extra: pip install 'kniv-serve[training]'.
    """
    with told():
        if fp16 and int8:
            raise ServeError("--fp16 and --int8 make two files; give one at a time")
        graphs = _graphs(model, model_repository, variant=fp16 or int8)
        if output is not None and len(graphs) != 1:
            names = ", ".join(str(path) for path in graphs)
            raise RepositoryError(output, f"can hold one graph, but there are {len(graphs)}: {names}; name one of them")
        for path in graphs:
            if fp16 or int8:
                target = output or path.with_name(GRAPHS["fp16" if fp16 else "int8"])
                if output is None and target.exists():
                    raise RepositoryError(target, "is there already; delete it or name another file with --output")
                _write(path, target, fp16, int8)
            elif output is not None:
                _write(path, output, fp16=False, int8=False)
            else:
                _keep(path)


def _graphs(model: str, root: Path, variant: bool) -> list[Path]:
    place = Path(model)
    if place.is_file():
        return [place]
    if place.is_dir():
        folders = [place, *sorted(entry for entry in place.iterdir() if entry.name.isdecimal() and entry.is_dir())]
    else:
        found = find(root, model)
        place, folders = found.path, [files.folder for files in found.versions]
    wanted = [GRAPHS["fp32"]] if variant else list(GRAPHS.values())
    graphs = [folder / name for folder in folders for name in wanted if (folder / name).is_file()]
    if not graphs:
        raise RepositoryError(place, f"holds no graph: expected {' or '.join(wanted)}")
    return graphs


def _keep(path: Path) -> None:
    """Into the cache that servers read."""
    from kniv.server.runtime import cache
    from kniv.server.runtime.prepare import keep, keep_source, rewrite

    started = perf_counter()
    key = cache.key_of(path)
    done = rewrite(path)
    exact, changed = _is_float(done), any(report.places for report in done.report)
    kept = keep(path, key, done)
    if kept is None:
        raise RepositoryError(path, "its rewritten graph cannot be kept in any folder; name a file with --output")
    _tell(path, kept, kept, done, perf_counter() - started)
    if changed and not _proved(path, kept, exact):
        kept.unlink()
        keep_source(path, key)  # or the next server would rewrite it again
        print(f"kniv-serve: {path}: servers run it as it is", file=sys.stderr)
        raise typer.Exit(1)


def _write(path: Path, target: Path, fp16: bool, int8: bool) -> None:
    from kniv.server.graphs.files import write_model
    from kniv.server.runtime.prepare import rewrite

    started = perf_counter()
    done = rewrite(path, _calibration(path) if int8 else None, fp16)
    exact = _is_float(done)
    if fp16 or int8:
        step, precision = ("half", "FP16") if fp16 else ("int8", "INT8")
        # A graph that has been rewritten before has no report but that it has.
        made = next((report for report in done.report if report.name == step), done.report[0])
        if made.name != step or not made.places:
            raise RepositoryError(path, f"cannot be put into {precision}: {made.note}")
    # It takes its place once it is proved: it may be that of a file that is in use, or of the source itself.
    with TemporaryDirectory(dir=target.parent, prefix=".") as work:
        written = Path(work) / target.name
        write_model(done.model, written)
        _tell(path, target, written, done, perf_counter() - started)
        if not _proved(path, written, exact and not fp16):
            raise typer.Exit(1)
        written.replace(target)


def _calibration(path: Path) -> Calibrate:
    try:
        from kniv.training.calibrate import ranges, sample_feeds
    except ImportError as error:
        problem = (
            f"to find activations' ranges, {error.name or 'PyTorch'} is needed: pip install 'kniv-serve[training]'"
        )
        raise ServeError(problem) from error
    return lambda model, names: ranges(model, names, sample_feeds(path.parent))


def _is_float(done: Optimised) -> bool:
    kinds = {tensor.data_type for tensor in done.model.graph.initializer}
    return not kinds & {2, 3}  # TensorProto.UINT8, INT8


def _tell(path: Path, target: Path, made: Path, done: Optimised, seconds: float) -> None:
    sizes = [f"{name} ({_bytes(place) / 1e6:.1f} MB)" for name, place in ((path, path), (target, made))]
    print(f"{sizes[0]}: {'nothing to do' if made == path else f'rewritten to {sizes[1]}'} in {seconds:.1f} s")
    for report in done.report:
        print(f"  {report.name:<10} {f'applied, {report.places}' if report.places else 'skipped':<12} {report.note}")


def _bytes(graph: Path) -> int:
    """Of a graph and of the weights that an entry of the cache keeps beside it."""
    from kniv.server.graphs.mapped import WEIGHTS

    weights = graph.with_name(WEIGHTS)
    return graph.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)


def _proved(path: Path, made: Path, exact: bool) -> bool:
    """Compare answers; tells whether they are as near as they have to be."""
    from kniv.server.runtime.proof import compare

    proof = compare(path, made, _vocabulary(path))
    print(
        f"  largest difference of an answer, over 1 + its size: {proof.alone:.1e} alone, "
        f"{proof.together:.1e} in a padded batch",
        flush=True,
    )
    if proof.alone <= (_EXACT if exact else float_info.max):
        return True
    print(f"kniv-serve: {path}: the rewritten graph answers differently and is not kept", file=sys.stderr)
    return False


def _vocabulary(path: Path) -> int:
    from tokenizers import Tokenizer

    tokenizer = path.with_name("tokenizer.json")
    return int(Tokenizer.from_file(str(tokenizer)).get_vocab_size()) if tokenizer.is_file() else _FEW
