"""The charts: what an SVG reader finds in them."""

import math
import re
import warnings
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcgan.report.chart import COLORS, HEIGHT, WIDTH, Chart, draw_chart

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "\"><script>alert('1')</script>&amp; $x_1$"


class Drawing:
    """An <svg> element, parsed.

    Attributes:
        root: The element.
        texts: The text of each <text> element.
    """

    def __init__(self, chart: Chart | None) -> None:
        assert chart is not None
        self.root = ET.fromstring(chart.svg)  # noqa: S314 - our own text
        self.texts = ["".join(each.itertext()) for each in self.root.iter(f"{SVG}text")]

    def points(self, color: str) -> list[tuple[float, float]]:
        """Return the positions of the markers with a stroke of `color`."""
        markers = [each for each in self.root.iter(f"{SVG}use") if f"stroke: var(--{color})" in each.get("style", "")]
        return [(float(each.get("x", "")), float(each.get("y", ""))) for each in markers]

    def lines(self, color: str) -> list[str]:
        """Return the path of each line with a stroke of `color`, markers excepted."""
        styles = {"fill: none", f"stroke: var(--{color})"}
        paths = self.root.iter(f"{SVG}path")
        return [each.get("d", "") for each in paths if styles <= set(each.get("style", "").split("; "))]


def _numbers(texts: list[str]) -> list[float]:
    cleaned = [text.replace(",", "").replace("\N{MINUS SIGN}", "-") for text in texts]
    return [float(text) for text in cleaned if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", text)]


def test_a_curve_has_a_line_and_a_point_for_each_epoch():
    """In the order of the epochs, with the greatest value on top, within the drawing."""
    drawing = Drawing(draw_chart("Loss", {"generator": {3: 1.5, 1: 0.5, 2: 2.5}}, None))
    (x1, y1), (x2, y2), (x3, y3) = drawing.points("first")
    assert 0 < x1 < x2 < x3 < WIDTH
    assert 0 < y2 < y3 < y1 < HEIGHT
    assert x2 - x1 == pytest.approx(x3 - x2, abs=1e-3)
    (line,) = drawing.lines("first")
    assert len(re.findall("[ML]", line)) == 3
    assert drawing.points("second") == []


def test_two_curves_have_two_colours():
    """The first and the second, which may have other epochs."""
    drawing = Drawing(draw_chart("Losses", {"generator": {1: 1, 2: 2}, "discriminator": {2: 0.5}}, None))
    assert (len(drawing.points("first")), len(drawing.points("second"))) == (2, 1)
    assert drawing.points("second")[0][0] == drawing.points("first")[1][0]
    assert drawing.points("second")[0][1] > max(y for _, y in drawing.points("first"))


def test_the_axes_are_labelled():
    """The horizontal one with integer epochs, the vertical one with the size of the values."""
    drawing = Drawing(draw_chart("Kernel distance", {"": {1: -250.0, 2: 1250.0}}, None))
    assert "Epoch" in drawing.texts
    assert {"1", "2", "0", "500", "1,000"} <= set(drawing.texts)
    assert "1.5" not in drawing.texts
    assert drawing.root.get("role") == "img"
    assert drawing.root.get("aria-label") == "Kernel distance by epoch; the numbers are in the table below"


def test_the_best_epoch_is_marked_where_it_has_a_value():
    """With its number, at its position; an epoch without a value is not marked."""
    curves = {"a": {1: 1.0, 2: 2.0}, "b": {3: 1.0}}
    drawing = Drawing(draw_chart("Losses", curves, 2))
    assert "best: 2" in drawing.texts
    (line,) = drawing.lines("good")
    assert float(line.split()[1]) == pytest.approx(drawing.points("first")[1][0], abs=1e-3)
    for epoch in (9, None):
        without = Drawing(draw_chart("Losses", curves, epoch))
        assert not [text for text in without.texts if "best" in text]
        assert without.lines("good") == []


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis():
    """100 is midway between 10 and 1,000, and the ticks are powers of ten and their multiples."""
    chart = draw_chart("Fréchet distance", {"": {1: 10, 2: 100, 3: 1000}}, None, logarithmic=True)
    (_, first), (_, second), (_, third) = Drawing(chart).points("first")
    assert first - second == pytest.approx(second - third, abs=1e-3)
    assert {"10", "100", "1,000"} <= set(Drawing(chart).texts)


@pytest.mark.parametrize("values", [(3, 300), (3, 30_000), (11, 13), (24.1, 24.2), (7, 7)])
def test_a_logarithmic_axis_has_a_few_plain_ticks(values):
    """Whether it spans four decades or a part of one."""
    chart = draw_chart("Fréchet distance", {"": dict(enumerate(values))}, None, logarithmic=True)
    assert chart.logarithmic
    assert 2 <= len(_numbers(Drawing(chart).texts)) - 2 <= 12


def test_values_that_are_not_positive_make_the_axis_linear():
    """A logarithm is defined for positive values only."""
    for low in (-1, 0):
        chart = draw_chart("Fréchet distance", {"": {1: low, 2: 2, 3: 5}}, None, logarithmic=True)
        assert not chart.logarithmic
        (_, first), (_, second), (_, third) = Drawing(chart).points("first")
        assert (first - second) / (second - third) == pytest.approx((2 - low) / 3, rel=1e-3)


def test_values_that_are_not_finite_are_skipped():
    """They have no point, do not decide about the axis, and a curve of nothing else is not shown."""
    curve = {1: 8.0, 2: math.nan, 3: math.inf, 4: -math.inf, 5: 4.0}
    chart = draw_chart("Fréchet distance", {"a": curve, "b": {1: math.nan}}, 3, logarithmic=True)
    assert chart.logarithmic
    assert list(chart.curves) == ["a"]
    assert len(Drawing(chart).points("first")) == 2
    assert not [text for text in Drawing(chart).texts if "best" in text]
    assert draw_chart("Fréchet distance", {"a": {1: math.nan}, "b": {}}, 1) is None
    assert draw_chart("Fréchet distance", {}, 1) is None


def test_names_are_escaped():
    """A title that looks like markup or mathematics is text."""
    chart = draw_chart(HOSTILE, {HOSTILE: {1: 1.0}}, 1)
    assert "<script" not in chart.svg
    assert Drawing(chart).root.get("aria-label").startswith(HOSTILE)


def test_a_drawing_is_reproducible():
    """The same chart gives the same text, with no date in it; another title gives other ids."""
    chart = draw_chart("Losses", {"a": {1: 1.0, 2: 3.0}}, 2)
    assert chart.svg == draw_chart("Losses", {"a": {1: 1.0, 2: 3.0}}, 2).svg
    other = draw_chart("Confidence", {"a": {1: 1.0, 2: 3.0}}, 2)
    ids, others = (set(re.findall(r'\bid="([^"]*)"', each.svg)) for each in (chart, other))
    assert ids
    assert not ids & others
    assert not re.search(r"20\d\d-\d\d|metadata|<style|<\?xml|<!DOCTYPE", chart.svg)


def test_the_page_gives_the_colours():
    """Every colour is a custom property of the style sheet, and the background is transparent."""
    svg = draw_chart("Losses", {"a": {1: 1.0, 2: 3.0}, "b": {1: 2.0}}, 2).svg
    assert not re.search("#[0-9a-f]{6}", svg)
    assert set(re.findall(r"var\(--(\w+)\)", svg)) == set(COLORS)


values = st.floats(-1e38, 1e38) | st.sampled_from([math.nan, math.inf, -math.inf])


@settings(max_examples=15, deadline=None)
@given(curve=st.dictionaries(st.integers(1, 2000), values, min_size=1, max_size=20), logarithmic=st.booleans())
def test_any_values_can_be_drawn(curve, logarithmic):
    """Points are inside the drawing, in the order of the epochs, and ordered as their values; nothing warns."""
    drawn = {epoch: value for epoch, value in sorted(curve.items()) if math.isfinite(value)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = draw_chart("any", {"one": curve}, None, logarithmic=logarithmic)
        if not drawn:
            assert chart is None
            return
        points = Drawing(chart).points("first")
    assert len(points) == len(drawn)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert all(left < right for (left, _), (right, _) in pairwise(points))
    by_value = [y for _, (_, y) in sorted(zip(drawn.values(), points, strict=True), key=lambda pair: pair[0])]
    assert all(lower >= upper - 1e-3 for lower, upper in pairwise(by_value))
