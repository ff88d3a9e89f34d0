"""The sweep as a table of docs/performance.md."""

from __future__ import annotations

from typing import Any

from benchmarks.int8.quality import FIGURES, OUTPUTS


def markdown(found: dict[str, Any]) -> str:
    """One row a candidate: losses in points, agreement in percent, speed over the seed's recipe."""
    heads = [f"{name} loss" for name in FIGURES] + [f"same {name}" for name in OUTPUTS]
    lines = ["| recipe | MB | speed | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 3)]
    for name, row in found["candidates"].items():
        cells = [name, f"{row['mb']:.1f}", f"{row['speed']['gmean']:.2f}"]
        cells += [f"{row['loss'][figure]:.2f}" if "loss" in row else "-" for figure in FIGURES]
        cells += [f"{row['same'][head]:.2f}" if "same" in row else "-" for head in OUTPUTS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
