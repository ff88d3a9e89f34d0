from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kniv.server.graphs.calibration import samples
from kniv.server.graphs.ranges import Floats, Observer, Range, divisors, expected_error
from kniv.server.graphs.saturation import steps

SEEDS = st.integers(0, 10**6)


def activation(seed: int, large: int = 0) -> Floats:
    """Values [400, 48], ``large`` of the channels thirty times the others' size."""
    values = np.random.default_rng(seed).standard_normal((400, 48)).astype(np.float32)
    values[:, :large] *= 30
    return values


def weights(seed: int) -> Floats:
    return np.random.default_rng(seed + 1).standard_normal((48, 96)).astype(np.float32)


def seen(values: Floats) -> Range:
    observer = Observer()
    observer.see(values)
    return observer.range()


def rounded_error(values: Floats, weight: Floats) -> float:
    """Mean squared error of a row of the product with both sides rounded, as the INT8 graph rounds them."""
    low, high = seen(values).ends()
    step = (high - low) / 255
    scales = steps(weight, axis=0)
    product = (np.rint(values / step) * step) @ (np.rint(weight / scales) * scales)
    return float(np.square(product - values @ weight).sum(1).mean())


@given(seed=SEEDS, cuts=st.lists(st.integers(1, 399), max_size=4))
def test_what_is_seen_does_not_depend_on_how_it_is_cut_into_runs(seed: int, cuts: list[int]) -> None:
    values = activation(seed, large=3)
    observer = Observer()
    for part in np.split(values, sorted(set(cuts))):
        observer.see(part[None])
    found = observer.range()
    np.testing.assert_array_equal(found.low, values.min(0))
    np.testing.assert_array_equal(found.high, values.max(0))
    np.testing.assert_allclose(found.power, np.square(values).mean(0), rtol=1e-5)


def test_nothing_seen_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        Observer().range()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, large=st.integers(0, 4))
def test_expected_error_is_the_error_that_rounding_makes(seed: int, large: int) -> None:
    values, weight = activation(seed, large), weights(seed)
    assert rounded_error(values, weight) == pytest.approx(expected_error(seen(values), weight), rel=0.25)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, large=st.integers(1, 4))
def test_divisors_keep_the_product_and_more_than_halve_its_error(seed: int, large: int) -> None:
    values, weight = activation(seed, large), weights(seed)
    found = divisors(seen(values), weight)
    assert found is not None
    assert (found > 0).all()
    even, scaled = values / found, weight * found[:, None]
    np.testing.assert_allclose(even @ scaled, values @ weight, rtol=1e-3, atol=1e-2)
    assert rounded_error(even, scaled) < 0.6 * rounded_error(values, weight)


@given(seed=SEEDS)
def test_channels_of_one_size_are_left_alone(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(-1, 1, (400, 48)).astype(np.float32)
    assert divisors(seen(values), weights(seed)) is None


def test_zero_has_a_code_even_where_no_value_is_near() -> None:
    assert seen(np.full((2, 3), 5, dtype=np.float32)).ends() == (0.0, 5.0)
    assert seen(np.full((2, 3), -5, dtype=np.float32)).ends()[1] > 0


def test_shipped_text_has_sentences_and_turns() -> None:
    found = samples()
    assert all(text.strip() == text and text for _, text in found)
    assert len({text for _, text in found}) == len(found)
    assert sum(previous is None for previous, _ in found) > 50
    assert sum(previous is not None for previous, _ in found) > 10
