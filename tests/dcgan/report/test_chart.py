"""The charts: what an SVG reader finds in them."""

import math
import re
import warnings
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dcgan.report.chart import COLORS, HEIGHT, LINES, MARKED_EPOCHS, PATTERNS, WIDTH, Chart, draw_chart
from dcgan.report.templates import TEMPLATES

# linear RGB as people with each kind of colour blindness see it: Machado et al., "A Physiologically-based Model for
# Simulation of Color Vision Deficiency", IEEE TVCG 15 (2009), severity 1
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])  # from linear RGB

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
    svg = draw_chart("Losses", {name: {1: 1.0, 2: 3.0} for name in "abcdefgh"}, 2).svg
    assert not re.search("#[0-9a-f]{6}", svg)
    assert set(re.findall(r"var\(--(\w+)\)", svg)) == set(COLORS)


def linear_rgb(color: str) -> np.ndarray:
    """Return a colour #rrggbb as linear RGB from 0 to 1 (IEC 61966-2-1)."""
    channels = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return linear RGB in CIELAB, in which distances are about as large as they look."""
    ratios = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(ratios > 216 / 24389, np.cbrt(ratios), (24389 / 27 * ratios + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.fixture(params=["light", "dark"])
def scheme(request) -> dict[str, str]:
    """The colours of the style sheet's light or dark scheme by name."""
    light, dark = re.findall(r":root \{(.*?)\}", (TEMPLATES / "report.css").read_text(), re.DOTALL)
    return dict(re.findall(r"--(\w+): (#\w{6})", light if request.param == "light" else dark))


def test_lines_stand_out(scheme):
    """Each colour has a contrast with the page of at least 3 to 1, as WCAG 2.2 asks of graphics (1.4.11)."""
    luminance = {name: float((XYZ @ linear_rgb(color))[1]) + 0.05 for name, color in scheme.items()}
    for line in LINES:
        high, low = sorted([luminance[line.color], luminance["paper"]], reverse=True)
        assert high / low >= 3, line


@pytest.mark.parametrize("vision", VISION)
def test_lines_differ_for_every_reader(scheme, vision):
    """Two lines have other dashes, or colours that look unlike to readers with this vision."""
    seen = {line: lab(np.array(VISION[vision]) @ linear_rgb(scheme[line.color])) for line in LINES}
    pairs = [(one, other) for one, other in combinations(LINES, 2) if one.dashes == other.dashes]
    assert len(pairs) == len(PATTERNS)
    for one, other in pairs:
        assert np.linalg.norm(seen[one] - seen[other]) > 30, (one, other)


def test_the_style_sheet_has_the_colours():
    """Matplotlib's values are those of the light scheme."""
    sheet = (TEMPLATES / "report.css").read_text()
    for name, color in COLORS.items():
        assert f"--{name}: {color};" in sheet


def test_a_curve_keeps_its_line():
    """That of its place, whatever the curves before it have."""
    chart = draw_chart("Losses", {"1": {}, "2": {1: math.nan}, "3": {1: 1.0, 2: 2.0}}, None)
    assert chart.lines == {"3": LINES[2]}
    assert len(Drawing(chart).points("third")) == 2
    assert "stroke-dasharray" in chart.svg


def test_a_long_curve_has_no_points():
    """They would hide the dashes."""
    chart = draw_chart("Losses", {"a": dict.fromkeys(range(MARKED_EPOCHS + 1), 1.0)}, None)
    drawing = Drawing(chart)
    assert drawing.points("first") == []
    assert len(re.findall("[ML]", drawing.lines("first")[0])) >= 2


values = st.floats(-1e36, 1e36, exclude_min=True, exclude_max=True) | st.sampled_from(
    [math.nan, math.inf, -math.inf, 1e36, 1e38]
)


@settings(max_examples=15, deadline=None)
@given(curve=st.dictionaries(st.integers(1, 2000), values, min_size=1, max_size=20), logarithmic=st.booleans())
@example(curve={1: 9.999999999999994e35}, logarithmic=True)
def test_any_values_can_be_drawn(curve, logarithmic):
    """Points are inside the drawing, in the order of the epochs, and ordered as their values; nothing warns."""
    drawn = {epoch: value for epoch, value in sorted(curve.items()) if abs(value) < 1e36}
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
