"""One picture a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Draw = Callable[[dict[str, Any], Any], None]

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "kniv",  # the same figures make the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
}


def picture(path: Path, draw: Draw, result: dict[str, Any]) -> None:
    """Draw a result into an SVG file."""
    import matplotlib as mpl  # a benchmark's figures need no picture, nor do their tests
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        draw(result, figure)
        figure.savefig(path, metadata={"Date": None})
