"""The block of docs/performance.md that holds what the benchmark found, made of its JSON and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.graph.rounds import means

BEGIN, END = "<!-- begin: make bench-graph -->", "<!-- end: make bench-graph -->"
MARKS = {
    "": (BEGIN, END),
    "-without-vnni": ("<!-- begin: make bench-graph, no VNNI -->", "<!-- end: make bench-graph, no VNNI -->"),
}

_MS = ("published FP32", "published INT8", "ours FP32", "ours INT8", "PyTorch FP32")
_RATIOS = {
    "int8": "INT8",
    "int8_dialog_act": "INT8, act",
    "int8_srl": "INT8, SRL",
    "fp32": "FP32",
    "fp32_dialog_act": "FP32, act",
    "fp32_srl": "FP32, SRL",
    "fp32_over_torch": "FP32 / PyTorch",
    "int8_over_torch": "INT8 / PyTorch",
}
_SERVER = {
    "over_int8": "all five tasks, over the quick start on the published INT8 file",
    "over_fp32": "all five tasks, over the quick start on the published FP32 file",
    "one_pass_over_int8": "POS, entities, trees (one pass), over one pass of the quick start on the INT8 file",
    "one_pass_over_triton_estimated": "the same over Triton's batcher, **estimated**: 40/51 of the quick start",
}


def block(result: Mapping[str, Any], kind: str = "") -> str:
    """The text between the two marks of a kind of machine, marks included."""
    begin, end = MARKS[kind]
    parts = [begin, _machine(result)]
    for size, by_threads in result["sizes"].items():
        for threads, shapes in by_threads.items():
            parts += [f"**{size}, {_threads(int(threads))}**", _shapes(shapes)]
    parts += ["**Peak memory**", _memory(result["memory"])]
    if result["server"] is not None:
        made = "cascade-int8.onnx" + (
            " remade by `kniv-serve optimise --int8`" if result["server"]["remade_int8"] else ""
        )
        parts += [f"**Through the server**, {made}", _server(result["server"])]
    if result.get("passes"):
        parts += ["**Without a pass**, small, one thread a run: its time over that with all", _passes(result["passes"])]
    return "\n\n".join([*parts, end])


def put(text: str, made: str, begin: str = BEGIN, end: str = END) -> str:
    """A page with its block replaced.

    Raises:
        ValueError: the page does not have each mark once, in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the page must have the lines {begin} and {end} once each, in this order")
    return text[: text.index(begin)] + made + text[text.index(end) + len(end) :]


def write(page: Path, made: str, begin: str = BEGIN, end: str = END) -> None:
    """Put a block into a page; see :func:`put`."""
    page.write_text(put(page.read_text(encoding="utf-8"), made, begin, end), encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine in words."""
    flags = ", ".join(machine["flags"]) or "none of AVX2, AVX-512, VNNI"
    return f"{machine['cores']} cores ({machine['architecture']}; {flags}), ONNX Runtime {machine['onnxruntime']}"


def _machine(result: Mapping[str, Any]) -> str:
    quick = " **A quick run, whose figures are without worth.**" if result["plan"]["quick"] else ""
    return f"{machine_line(result['machine'])}.{quick}"


def _threads(threads: int) -> str:
    return "one thread a run" if threads == 1 else f"{threads} threads a run"


def _shapes(shapes: Mapping[str, Any]) -> str:
    first = next(iter(shapes.values()))
    ms = [name for name in _MS if name in first["ms"]]
    kinds = [name for name in _RATIOS if name in first["ratios"]]
    head = ["rows x subwords", *(f"{name}, ms" for name in ms), *(_RATIOS[name] for name in kinds)]
    rows = [
        [name.replace("x", " x ")]
        + [f"{one['ms'][contender]:.1f}" for contender in ms]
        + [f"{one['ratios'][kind]:.2f}" for kind in kinds]
        for name, one in shapes.items()
    ]
    mean = means(dict(shapes))
    rows.append(["geometric mean", *("" for _ in ms), *(f"{mean[kind]:.2f}" for kind in kinds)])
    return table(head, rows)


def _memory(memory: Mapping[str, float]) -> str:
    rows = [
        [kind, f"{memory[f'published {kind}']:.0f}", f"{memory[f'ours {kind}']:.0f}", f"{memory[ratio]:.2f}"]
        for kind, ratio in (("FP32", "fp32_ratio"), ("INT8", "int8_ratio"))
        if ratio in memory
    ]
    return table(["loading and one run at 32 x 128", "published, MiB", "ours, MiB", "ours / published"], rows)


def _passes(passes: Mapping[str, Any]) -> str:
    shapes = list(next(iter(passes["INT8"].values())))
    head = ["pass", *(f"{kind}, {shape.replace('x', ' x ')}" for kind in passes for shape in shapes)]
    found = {name: [passes[kind][name][shape] for kind in passes for shape in shapes] for name in passes["INT8"]}
    rows = [[name, *(one if isinstance(one, str) else f"{one:.2f}" for one in row)] for name, row in found.items()]
    return table(head, rows)


def _server(server: Mapping[str, Any]) -> str:
    rows = [
        [text, f"{server[key]['median']:.2f}", f"{server[key]['least']:.2f} to {server[key]['greatest']:.2f}"]
        for key, text in _SERVER.items()
    ]
    return table(["sentences a second", "times", f"of {server['rounds_that_count']} rounds"], rows)
