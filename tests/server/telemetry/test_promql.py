from __future__ import annotations

import pytest
from tests.server.telemetry.promql import labels, names


@pytest.mark.parametrize(
    ("expression", "metrics", "named"),
    [
        ("up", {"up"}, set()),
        ('sum by (a, b) (rate(x_total{c="y_total", d=~"z"}[5m])) > 0.5e3', {"x_total"}, {"a", "b", "c", "d"}),
        ("histogram_quantile(0.99, sum by (le) (rate(x_bucket[$__rate_interval])))", {"x_bucket"}, {"le"}),
        ('1 - x{e!="f"} / on (g) y * 2', {"x", "y"}, {"e", "g"}),
    ],
)
def test_names_and_labels_are_found(expression: str, metrics: set[str], named: set[str]) -> None:
    assert names(expression) == metrics
    assert labels(expression) == named
