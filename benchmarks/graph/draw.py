"""The picture: each shape's ratios over the published INT8 graph, and the server's over the quick start."""

from __future__ import annotations

from typing import Any

_KINDS = {"int8": "all heads", "int8_srl": "with 4.7 predicates", "int8_dialog_act": "dialog act alone"}
_SERVER = {"over_int8": "INT8", "over_fp32": "FP32", "one_pass_over_int8": "one pass\nINT8"}


def draw(result: dict[str, Any], figure: Any) -> None:
    """Bars by shape of the small size at the first number of threads; beside them the server's."""
    threads, shapes = next(iter(result["sizes"]["small"].items()))
    server = result["server"]
    plots = figure.subplots(1, 2 if server else 1, squeeze=False, width_ratios=(3, 1) if server else (1,))[0]
    width = 0.8 / len(_KINDS)
    for place, (kind, label) in enumerate(_KINDS.items()):
        at = [x + (place - (len(_KINDS) - 1) / 2) * width for x in range(len(shapes))]
        bars = plots[0].bar(at, [one["ratios"][kind] for one in shapes.values()], width, label=label)
        plots[0].bar_label(bars, fmt="%.1f", fontsize=6)
    plots[0].set_xticks(range(len(shapes)), [name.replace("x", " x ") for name in shapes], fontsize=8)
    plots[0].set_title(f"times as fast as the published INT8 graph (small, {threads} threads)", fontsize=9)
    plots[0].axhline(1, color="0.5", linewidth=0.8)
    plots[0].legend(fontsize=7, loc="upper left", ncols=3)
    plots[0].margins(y=0.2)
    if server:
        bars = plots[1].bar(range(len(_SERVER)), [server[key]["median"] for key in _SERVER], color="C0")
        plots[1].bar_label(bars, fmt="%.1f", fontsize=7)
        plots[1].set_xticks(range(len(_SERVER)), list(_SERVER.values()), fontsize=8)
        plots[1].set_title("server over quick start", fontsize=9)
        plots[1].axhline(1, color="0.5", linewidth=0.8)
