"""Curves over epochs as points, ticks and labels in the units of an SVG drawing."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 18, 34  # margins
PADDING = 0.06  # of the values' range, above and below the curves
TICKS = 4
MANTISSAS = (1, 2, 5, 10)

Curve = Mapping[int, float]
"""A value by epoch."""


@dataclass(frozen=True)
class Tick:
    """Where an axis has a label, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """Where a value lies, and what it is."""

    x: float
    y: float
    epoch: int
    value: float


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        title: what is measured.
        curves: one or two, each by its name.
        mark: the x of the marked epoch, None where none of the curves has a value there.
        marked: that epoch.
        logarithmic: whether the vertical axis is.
    """

    title: str
    curves: dict[str, list[Point]]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    mark: float | None
    marked: int | None
    logarithmic: bool


def draw_chart(title: str, curves: Mapping[str, Curve], marked: int | None, *, logarithmic: bool = False) -> Chart:
    """Return a chart of curves that are not empty; a logarithmic axis needs values above zero, else it is linear."""
    values = [value for curve in curves.values() for value in curve.values()]
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    logarithmic = logarithmic and min(values) > 0
    x = _axis(epochs[0], epochs[-1], LEFT, WIDTH - RIGHT)
    transform = math.log10 if logarithmic else float
    y = _padded_axis(transform(min(values)), transform(max(values)))
    ticks = (logarithmic_ticks if logarithmic else linear_ticks)(min(values), max(values))
    return Chart(
        title=title,
        curves={
            name: [Point(x(epoch), y(transform(curve[epoch])), epoch, curve[epoch]) for epoch in sorted(curve)]
            for name, curve in curves.items()
        },
        x_ticks=[Tick(x(tick), f"{tick:g}") for tick in linear_ticks(epochs[0], epochs[-1], whole=True)],
        y_ticks=[Tick(y(transform(tick)), f"{tick:,.6g}") for tick in ticks],
        mark=x(marked) if marked in epochs else None,
        marked=marked if marked in epochs else None,
        logarithmic=logarithmic,
    )


def linear_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten from `low` to `high`: about four, at least one.

    Args:
        low: where the values begin.
        high: where they end, at or above `low`.
        whole: whether only whole numbers will do.
    """
    if low == high:
        return [low]
    wanted = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(wanted))
    step = next(m * power for m in MANTISSAS if m * power >= wanted * (1 - 1e-9))
    step = max(step, 1) if whole else step
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from `low` to `high`, powers alone where those are too many.

    A range that holds fewer than two of them gets linear ticks.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    dense = [tick for power in powers for m in MANTISSAS[:3] if low <= (tick := m * 10.0**power) <= high]
    sparse = [tick for power in powers if low <= (tick := 10.0**power) <= high]
    if len(dense) <= TICKS + 1:
        return dense if len(dense) > 1 else linear_ticks(low, high)
    return sparse if len(sparse) > 1 else dense


def _padded_axis(low: float, high: float) -> Callable[[float], float]:
    padding = (high - low or abs(high) or 1) * PADDING
    return _axis(low - padding, high + padding, HEIGHT - BOTTOM, TOP)


def _axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the function from values to places; a range of one value lies in the middle."""
    if low == high:
        return lambda _: (start + end) / 2
    return lambda value: start + (end - start) * (value - low) / (high - low)
