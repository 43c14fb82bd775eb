"""The trials of a sweep as a table and as a plot."""

import csv
import io
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from dcgan.report.render import display_name
from dcgan.sweep import SEED
from tasks.results import SweepSummary, TrialResult

PANEL = (4.2, 3.4)  # inches
MAX_PANELS = 6
MAX_TICKS = 6  # up to so many values each have a tick
DPI = 110
WIDE = 10  # an axis whose largest value is as many times its smallest is logarithmic
FINISHED_COLOR, STOPPED_COLOR, BEST_COLOR = "#1f5fa8", "#b3541e", "#1c7a44"


def rows(summary: SweepSummary) -> list[dict[str, str]]:
    """Return a row for each trial, the columns in the order to show them."""
    return [
        {
            "trial": str(trial.number),
            "state": trial.state,
            **{name: "null" if value is None else str(value) for name, value in trial.point.items()},
            "frechet_distance": _number(trial.frechet_distance),
            "generator_loss": _number(trial.generator_loss),
            "run_id": trial.run_id or "",
        }
        for trial in summary.trials
    ]


def csv_table(summary: SweepSummary) -> str:
    """Return the trials as CSV with a header."""
    table = rows(summary)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def markdown_table(summary: SweepSummary) -> str:
    """Return the sentence about the sweep and its trials, the best first, as Markdown."""
    table = rows(summary)
    if not table:
        return summary.sentence
    distances = [math.inf if trial.frechet_distance is None else trial.frechet_distance for trial in summary.trials]
    order = sorted(range(len(table)), key=distances.__getitem__)
    lines = [f"| {' | '.join(display_name(name) for name in table[0])} |", f"|{'---|' * len(table[0])}"]
    lines += [f"| {' | '.join(table[index].values())} |" for index in order]
    return f"## {summary.name}\n\n{summary.sentence}\n\n" + "\n".join(lines) + "\n"


def plot_png(summary: SweepSummary) -> bytes:
    """Return a PNG of the objective by trial, and by each number that varies."""
    shown = [trial for trial in summary.trials if summary.objective_of(trial) is not None]
    heights = [summary.objective_of(trial) or 0 for trial in shown]
    names = _varying_numbers(shown)[: MAX_PANELS - 1]
    columns = min(1 + len(names), 3)
    lines = -(-(1 + len(names)) // columns)
    figure = Figure(figsize=(columns * PANEL[0], lines * PANEL[1]), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, name in zip(panels, ["trial", *names], strict=False):
        places = [float(trial.number if name == "trial" else trial.point[name] or 0) for trial in shown]
        _draw(panel, shown, places, heights)
        panel.set_xlabel(display_name(name))
        if name in summary.logarithmic:
            panel.set_xscale("log")
        elif len(values := sorted(set(places))) <= MAX_TICKS:
            panel.set_xticks(values, [f"{value:g}" for value in values])
        if summary.best and heights and max(heights) > WIDE * min(heights) > 0:
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
            panel.yaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel(summary.objective)
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if any(trial.state != "finished" for trial in shown):
        panels[0].legend(frameon=False)
    if summary.best and heights:
        panels[0].set_title(f"best: trial {summary.best.number}, {summary.best.frechet_distance:.4g}", color=BEST_COLOR)
    for panel in panels[1 + len(names) :]:
        panel.set_visible(False)
    figure.suptitle(summary.name)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI)
    return image.getvalue()


def _draw(panel: Axes, trials: Sequence[TrialResult], places: Sequence[float], heights: Sequence[float]) -> None:
    """Draw the trials as points: filled where finished, crosses where they ended before."""
    for finished, marker, color in ((True, "o", FINISHED_COLOR), (False, "x", STOPPED_COLOR)):
        chosen = [index for index, trial in enumerate(trials) if (trial.state == "finished") is finished]
        if chosen:
            name = "finished" if finished else "not finished"
            panel.scatter(
                [places[i] for i in chosen], [heights[i] for i in chosen], marker=marker, color=color, label=name
            )
    panel.grid(axis="y", color="#dcdfe2")
    panel.set_axisbelow(True)


def _varying_numbers(trials: Sequence[TrialResult]) -> list[str]:
    """Return the names of what varies among the trials and is a number in all of them, except the seed."""
    names = trials[0].point if trials else {}
    values = {name: [trial.point[name] for trial in trials] for name in names}
    return [
        name
        for name, found in values.items()
        if name != SEED and len(set(found)) > 1 and all(isinstance(value, int | float) for value in found)
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
