"""Where curves, ticks and marks lie."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan.page.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_chart, linear_ticks, logarithmic_ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.5, 1]), (1, 10, [5, 10]), (0, 4, [0, 1, 2, 3, 4]), (-0.3, 0.2, [-0.2, 0, 0.2]), (3, 3, [3])],
)
def test_linear_ticks_are_round(low, high, ticks):
    """Multiples of 1, 2 or 5 times a power of ten."""
    assert linear_ticks(low, high) == pytest.approx(ticks)


def test_epochs_are_whole():
    """Between two epochs there is none."""
    assert linear_ticks(1, 2, whole=True) == [1, 2]
    assert linear_ticks(1, 50, whole=True) == [20, 40]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(3, 300, [5, 10, 20, 50, 100, 200]), (3, 30_000, [10, 100, 1000, 10_000]), (11, 13, [11, 12, 13])],
)
def test_logarithmic_ticks(low, high, ticks):
    """1, 2, 5 within two powers of ten, powers alone over more, and linear ones where there would be none."""
    found = logarithmic_ticks(low, high)
    assert set(found) <= {*ticks, *linear_ticks(low, high)}
    assert len(found) >= 2


values = st.floats(1e-3, 1e4)


@given(curve=st.dictionaries(st.integers(1, 60), values, min_size=1, max_size=20), logarithmic=st.booleans())
def test_everything_lies_within_the_axes(curve, logarithmic):
    """Points and ticks are inside, ordered as their values, and the greatest epoch is rightmost."""
    chart = draw_chart("any", {"one": curve}, None, logarithmic=logarithmic)
    points = chart.curves["one"]
    assert [(point.epoch, point.value) for point in points] == sorted(curve.items())
    for place, low, high in (
        *((point.x, LEFT, WIDTH - RIGHT) for point in points),
        *((tick.at, LEFT, WIDTH - RIGHT) for tick in chart.x_ticks),
        *((point.y, TOP, HEIGHT - BOTTOM) for point in points),
        *((tick.at, TOP, HEIGHT - BOTTOM) for tick in chart.y_ticks),
    ):
        assert low - 1e-6 <= place <= high + 1e-6
    by_value = sorted(points, key=lambda point: point.value)
    assert [point.y for point in by_value] == sorted((point.y for point in by_value), reverse=True)


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis():
    """100 lies midway between 10 and 1000."""
    first, second, third = (
        p.y for p in draw_chart("", {"": {1: 10, 2: 100, 3: 1000}}, None, logarithmic=True).curves[""]
    )
    assert second - first == pytest.approx(third - second)


def test_values_below_zero_make_the_axis_linear():
    """A kernel distance may be negative; then there is no logarithm."""
    chart = draw_chart("", {"": {1: -1, 2: 1}}, None, logarithmic=True)
    assert not chart.logarithmic
    assert all(math.isfinite(point.y) for point in chart.curves[""])


def test_only_an_epoch_that_is_there_is_marked():
    """The mark is at the epoch's own place."""
    curves = {"a": {1: 1.0, 2: 2.0}, "b": {3: 1.0}}
    assert draw_chart("", curves, 2).mark == draw_chart("", curves, 2).curves["a"][1].x
    assert draw_chart("", curves, 9).mark is None
