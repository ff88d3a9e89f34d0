"""Ratios, tables and the docs' blocks: pages say what the JSON says, and nothing else."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.graph import roofline, server, tables
from benchmarks.graph.__main__ import line
from benchmarks.graph.ceilings import products
from benchmarks.graph.contenders import ALL, flags, packed
from benchmarks.graph.plan import FULL, PACKED, PREDICATES
from benchmarks.graph.profile import by_operator
from benchmarks.graph.rounds import means, ratios
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGES = ROOT / "benchmarks" / "results", ROOT / "docs"
MACHINE = {"cores": 2, "architecture": "x86_64", "flags": ["avx2"], "onnxruntime": "1.0"}


def seconds(rows: int, gain: float) -> dict[str, Any]:
    """Rounds in which ours takes a gain-th of the published graph's time, and a part of it half of that."""
    rounds = np.linspace(1, 2, 5)
    found = {"published FP32": 4 * rounds, "published INT8": 2 * rounds, "PyTorch FP32": 8 * rounds}
    for kind in ("FP32", "INT8"):
        ours = found[f"published {kind}"] / gain
        found |= {f"ours {kind}": ours, f"ours {kind} act": ours / 2, f"ours {kind} rest": ours}
        found[f"ours {kind} roles"] = ours * packed(rows) / rows
    return found


@given(st.integers(1, 64), st.floats(0.5, 4))
def test_ratios_are_gains(rows: int, gain: float) -> None:
    found = ratios(seconds(rows, gain), rows)
    assert found["int8"] == pytest.approx(gain)
    assert found["fp32_dialog_act"] == pytest.approx(2 * gain)
    # Rows of roles that cost what a full row costs leave the packed sentence no better than a full pass each.
    assert found["int8_srl"] == pytest.approx(gain)
    assert found["int8_over_torch"] == pytest.approx(4 * gain)
    assert packed(rows) >= max(rows, PACKED)


def result(gain: float = 1.5) -> dict[str, Any]:
    shapes = {}
    for rows, length in FULL.shapes:
        taken = seconds(rows, gain)
        ms = {name: 1e3 * float(np.median(values)) for name, values in taken.items()}
        shapes[f"{rows}x{length}"] = {"rounds": 5, "ms": ms, "ratios": ratios(taken, rows)}
    one = {"server": 4.0, "published INT8": 2.0, "published FP32": 1.0, "others_cores": 0.0}
    rounds = [one | {"one_pass_server": 102.0, "one_pass_published_int8": 51.0}] * 3
    memory = {"published FP32": 1000.0, "ours FP32": 500.0, "published INT8": 800.0, "ours INT8": 300.0}
    return {
        "machine": MACHINE,
        "plan": {"quick": False},
        "sizes": {"small": {"2": shapes}},
        "memory": memory | {"fp32_ratio": 0.5, "int8_ratio": 0.375},
        "server": server.summary(rounds) | {"remade_int8": True},
    }


def test_last_line_has_the_figures_that_count() -> None:
    found = line(result(1.5))
    assert found["int8_gmean"] == found["int8_worst"] == found["fp32_gmean"] == pytest.approx(1.5)
    assert found["dialog_act_gmean"] == pytest.approx(3.0)
    assert found["memory_ratio"] == 0.375
    assert found["server_vs_seed_int8"] == 2.0
    assert found["server_vs_seed_fp32"] == 4.0
    assert found["server_vs_triton_estimated"] == pytest.approx(2 * 51 / 40)


def test_line_of_a_result_without_a_server() -> None:
    assert line(result() | {"server": None})["server_vs_seed_int8"] is None


def test_worst_is_the_least_of_all_shapes() -> None:
    shapes = {str(place): {"ratios": {"int8": value}} for place, value in enumerate((2.0, 1.2, 1.8))}
    assert means(shapes)["int8_worst"] == 1.2


def test_block_tells_every_shape_and_of_an_estimate_that_it_is_one() -> None:
    block = tables.block(result())
    assert block.startswith(tables.BEGIN)
    assert block.endswith(tables.END)
    for rows, length in FULL.shapes:
        assert f"| {rows} x {length} |" in block
    assert "**estimated**" in block
    assert "without worth" in tables.block(result() | {"plan": {"quick": True}})


@given(st.text("ab\n"), st.text("cd\n"))
def test_put_leaves_the_rest_of_the_page(before: str, after: str) -> None:
    page = f"{before}{tables.BEGIN}\nold\n{tables.END}{after}"
    made = f"{tables.BEGIN}\nnew\n{tables.END}"
    assert tables.put(page, made) == before + made + after
    assert tables.put(tables.put(page, made), made) == tables.put(page, made)


@pytest.mark.parametrize("page", ["", tables.BEGIN, tables.END + tables.BEGIN, 2 * (tables.BEGIN + tables.END)])
def test_put_refuses_a_page_without_one_block(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        tables.put(page, "")


@pytest.mark.parametrize(
    ("name", "page", "block", "begin"),
    [
        *(
            (f"graph{kind}.json", "performance.md", partial(tables.block, kind=kind), begin)
            for kind, (begin, _) in tables.MARKS.items()
        ),
        ("roofline.json", "roofline.md", roofline.block, roofline.BEGIN),
    ],
)
def test_page_says_what_the_result_says(name: str, page: str, block: Any, begin: str) -> None:
    text = (PAGES / page).read_text(encoding="utf-8")
    if not (RESULTS / name).is_file():
        assert f"{begin}\nNot measured yet." in text
        return
    assert block(json.loads((RESULTS / name).read_text(encoding="utf-8"))) in text


def test_parts_of_ours_ask_for_different_heads() -> None:
    assert flags("act").sum() == flags("roles").sum() == 1
    assert (flags("rest") | flags("roles") == flags(ALL)).all()
    assert not (flags("rest") & flags("roles")).any()
    assert PREDICATES < PACKED


def test_profile_leaves_out_the_first_run_and_what_holds_others() -> None:
    def node(operator: str, begin: int, taken: int) -> dict[str, Any]:
        name = f"{operator}_1_kernel_time"
        return {"cat": "Node", "name": name, "ts": begin, "dur": taken, "args": {"op_name": operator}}

    runs = [{"cat": "Session", "name": "model_run", "ts": begin, "dur": 100, "args": {}} for begin in (0, 200)]
    first = [node("MatMul", 10, 80)]
    second = [node("MatMul", 210, 30), node("If", 240, 50), node("Gelu", 245, 10)]
    shares = by_operator([*runs, *first, *second])
    assert shares == pytest.approx({"MatMul": 0.75, "Gelu": 0.25})
    assert list(shares) == ["MatMul", "Gelu"]


def test_fraction_is_whole_where_a_run_takes_the_least_time() -> None:
    rates = dict.fromkeys(products(), 1e11)
    limits = {"rows": 192, "copy_bytes_per_s": 1e10} | dict.fromkeys(("fp32", "int8", "numpy_fp32"), rates)
    names = ("published FP32", "published INT8", "ours FP32", "ours INT8")
    once = roofline.judged((8, 24), limits, dict.fromkeys(names, 1.0))
    least = {name: sum(once["least_ms"][name.split()[1].lower()].values()) / 1e3 for name in names}
    again = roofline.judged((8, 24), limits, least)
    assert again["reached"] == pytest.approx(dict.fromkeys(names, 1.0))
    assert once["published_operations"] > sum(part[0] for part in once["parts"].values())
    whole = {"machine": MACHINE, "quick": True, "shapes": {"8x24": again}, "profiled": "8x24"}
    block = roofline.block(whole | {"profile": {name: {"MatMul": 1.0} for name in ("ours FP32", "ours INT8")}})
    assert "| 8 x 24 |" in block
    assert "100%" in block
