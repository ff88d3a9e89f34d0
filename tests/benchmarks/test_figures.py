"""Figures: the trend of a curve, and how results are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.server.figures import percentile, slope, spread, write
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(-1e3, 1e3)


@given(NUMBERS, NUMBERS, st.lists(st.floats(0, 1e3), min_size=2, max_size=30, unique_by=round))
def test_slope_of_a_line_is_its_own(rise: float, start: float, times: list[float]) -> None:
    times = sorted(map(round, times))
    assert slope(times, [start + rise * time for time in times]) == pytest.approx(rise, abs=1e-6)


def test_slope_heeds_no_few_spikes() -> None:
    times = list(range(40))
    values = [100 + 0.5 * time + (5000 if time % 7 == 3 else 0) for time in times]
    assert slope(times, values) == pytest.approx(0.5, rel=0.2)


@given(st.lists(NUMBERS, min_size=1))
def test_spread_lies_in_order(values: list[float]) -> None:
    found = spread(values)
    assert found["least"] <= found["median"] <= found["greatest"]


def test_result_is_json_with_the_machine_and_without_nan(tmp_path: Path) -> None:
    result = {"rounds": [{"curve": [1.0, 2.0, 3.00004]}], "none": percentile([], 50), "verdict": True}
    write(tmp_path / "deep" / "result.json", result)
    text = (tmp_path / "deep" / "result.json").read_text()
    kept = json.loads(text)
    assert kept["rounds"] == [{"curve": [1.0, 2.0, 3.0]}]
    assert kept["none"] is None
    assert kept["verdict"] is True
    assert kept["machine"]["cores"] >= 1
    assert any("[ 1.0, 2.0, 3.0 ]" in line for line in text.splitlines())
