from __future__ import annotations

import numpy as np
import pytest

from kniv.server.graphs.graph import Graph
from kniv.server.graphs.trace import trace

from .conftest import Source, batch, run


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (2, 5), (3, 40)])
def test_shapes_are_those_of_a_run(source: Source, rows: int, length: int) -> None:
    found = trace(Graph(source.load()), rows, length)
    for name, value in run(source.session, batch(1, rows, length)).items():
        assert found.shape(name) == value.shape


def test_what_the_mask_decides_is_known_with_it(source: Source) -> None:
    graph = Graph(source.load())
    mask = batch(1, 2, 5)["attention_mask"]
    with_mask, without = trace(graph, 2, 5, mask), trace(graph, 2, 5)
    np.testing.assert_array_equal(with_mask.values["attention_mask"], mask)
    assert set(without.values) < set(with_mask.values)
    assert not set(graph.outputs) & set(with_mask.values)
