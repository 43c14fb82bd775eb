"""Line charts over epochs, as SVG to be placed in a page whose style sheet gives the colours."""

import html
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

WIDTH, HEIGHT = 340, 200  # points
TICKS = 5
STEPS = (1, 2, 5)  # ticks lie at these multiples of powers of ten
DENSE_DECADES = 2  # a logarithmic axis that spans more has ticks at powers of ten alone
LARGEST = 1e36  # around larger values, Matplotlib finds no range of a logarithmic axis
MARKED_EPOCHS = 30  # the points of a longer curve would hide the dashes of its line

COLORS = {
    "first": "#1f5fa8",
    "second": "#b3541e",
    "third": "#138a63",
    "fourth": "#c2478d",
    "fifth": "#988300",
    "sixth": "#2b94cc",
    "seventh": "#5e2d91",
    "eighth": "#24292e",
    "good": "#1c7a44",
    "soft": "#656d76",
    "line": "#dcdfe2",
    "paper": "#fdfdfb",
}
"""The custom properties of report.css by name; Matplotlib needs values, which the property then replaces."""

STYLE: dict[str, object] = {
    "svg.fonttype": "none",  # text stays text
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 11,
    "text.color": COLORS["soft"],
    "xtick.labelcolor": COLORS["soft"],
    "ytick.labelcolor": COLORS["soft"],
    "axes.labelcolor": COLORS["soft"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.spines.bottom": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLORS["line"],
    "grid.linewidth": 1,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.xmargin": 0.03,
    "axes.ymargin": 0.06,
    "lines.linewidth": 1.75,
    "lines.markersize": 5,
    "lines.markeredgewidth": 1.5,
}

Curve = Mapping[int, float]
"""A metric by epoch."""


class Line(NamedTuple):
    """How a curve is drawn.

    Attributes:
        color: Name of its colour in COLORS.
        dashes: Lengths of dashes and gaps in turn, in widths of the line; none for a solid line.
    """

    color: str
    dashes: tuple[float, ...]


# two lines of one pattern have colours that readers with any kind of colour blindness tell apart
PATTERNS = ((), (3.7, 1.6), (1, 1.65), (6.4, 1.6, 1, 1.6))
LINES = tuple(
    Line(color, dashes)
    for color, dashes in zip(
        ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"), cycle(PATTERNS), strict=False
    )
)


@dataclass(frozen=True)
class Chart:
    """A chart of metrics over the epochs.

    Attributes:
        title: What is shown.
        curves: The metrics by name, each with a finite value.
        lines: How each is drawn, by name.
        best_epoch: The epoch to mark, or None.
        logarithmic: Whether the vertical axis is logarithmic.
    """

    title: str
    curves: Mapping[str, Curve]
    lines: Mapping[str, Line]
    best_epoch: int | None
    logarithmic: bool

    @property
    def svg(self) -> str:
        """The drawing as an <svg> element; the same chart gives the same text."""
        # the salt makes the ids of the drawing reproducible, and unlike those of other charts on the page
        with matplotlib.style.context(["default", STYLE | {"svg.hashsalt": self.title}]):
            figure = Figure((WIDTH / 72, HEIGHT / 72), layout="constrained")
            self._draw(figure.subplots())
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        return _inline(file.getvalue(), f"{self.title} by epoch; the numbers are in the table below")

    def _draw(self, axes: Axes) -> None:
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True, steps=[*STEPS, 10]))
        if self.logarithmic:
            axes.set_yscale("log")
        for name, curve in self.curves.items():
            epochs, values = zip(*sorted(finite(curve).items()), strict=True)
            line = self.lines[name]
            axes.plot(
                epochs,
                values,
                linestyle=(0, line.dashes) if line.dashes else "-",
                color=COLORS[line.color],
                marker="o" if len(epochs) <= MARKED_EPOCHS else "",
                markerfacecolor=COLORS["paper"],
                clip_on=False,
            )
        axes.yaxis.set_major_locator(self._y_locator(axes))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
        if self.best_epoch is not None:
            self._mark(axes, self.best_epoch)

    def _mark(self, axes: Axes, epoch: int) -> None:
        good = COLORS["good"]
        axes.axvline(epoch, color=good, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        axes.annotate(
            f"best: {epoch}",
            (epoch, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            color=good,
            ha="center",
            fontweight="bold",
        )

    def _y_locator(self, axes: Axes) -> LogLocator | MaxNLocator:
        low, high = axes.get_ylim()
        if not self.logarithmic:
            return MaxNLocator(TICKS, steps=[*STEPS, 10])
        decades = math.log10(high) - math.log10(low)
        return LogLocator(subs=STEPS if decades <= DENSE_DECADES else (1,))


def draw_chart(
    title: str, curves: Mapping[str, Curve], best_epoch: int | None, *, logarithmic: bool = False
) -> Chart | None:
    """Return a chart of the finite values of `curves`; None where there are none.

    Args:
        title: What is shown.
        curves: Up to eight metrics by name. A metric has the line of its place among them, also where others have no
            values.
        best_epoch: The epoch to mark if one of the curves has a value there.
        logarithmic: Whether to use a logarithmic axis if all values are positive.
    """
    shown = {name: curve for name, curve in curves.items() if finite(curve)}
    if not shown:
        return None
    points = [point for curve in shown.values() for point in finite(curve).items()]
    return Chart(
        title=title,
        curves=shown,
        lines={name: line for name, line in zip(curves, cycle(LINES), strict=False) if name in shown},
        best_epoch=best_epoch if best_epoch in {epoch for epoch, _ in points} else None,
        logarithmic=logarithmic and all(value > 0 for _, value in points),
    )


def finite(curve: Curve) -> dict[int, float]:
    """Return the values of a curve that can be drawn."""
    return {epoch: value for epoch, value in curve.items() if math.isfinite(value) and abs(value) < LARGEST}


def _inline(svg: str, label: str) -> str:
    """Return the <svg> element of an SVG file for use within a page.

    The ids of groups, which would not be unique in the page, and the style sheet, which would apply to all of it, are
    removed.
    """
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for name, value in COLORS.items():
        svg = svg.replace(value, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
