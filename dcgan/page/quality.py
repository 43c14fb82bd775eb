"""A generator's page: everything that an evaluation found, in one HTML file that opens from disk."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dcgan.page import chart, pictures
from dcgan.page.chart import Chart, Curve, draw_chart
from dcgan.page.exhibits import STEPS, Exhibits
from dcgan.quality.gate import Verdict
from dcgan.quality.noise import Estimate
from dcgan.quality.report import QualityReport

WHISKER = 2  # standard errors, each way
CHARTS = MappingProxyType(
    {
        "Fréchet distance": ("frechet_distance",),
        "kernel distance": ("kernel_distance",),
        "confidence": ("confidence",),
        "class divergence, nats": ("class_divergence",),
        "missing classes": ("missing_classes",),
        "losses": ("generator_loss", "discriminator_loss"),
    }
)
LOGARITHMIC = ("Fréchet distance",)


@dataclass(frozen=True, eq=False)
class QualityPage:
    """What the page shows.

    Attributes:
        title: what is judged.
        facts: where it came from, by name.
        sentence: the verdict in words, or what stands in its place.
        verdict: the gate's, None where it was not asked.
        evaluator: the evaluator's figures by column: the version first, the champion if any, then the bounds.
        judge: the judge's, in the same columns.
        exhibits: pictures.
        history: metrics of the training by name, each by epoch; those that no chart shows are left out.
        best_epoch: the one to mark, None where none was evaluated.
    """

    title: str
    facts: Mapping[str, str]
    sentence: str
    verdict: Verdict | None
    evaluator: Mapping[str, QualityReport]
    judge: Mapping[str, QualityReport]
    exhibits: Exhibits
    history: Mapping[str, Curve]
    best_epoch: int | None


@dataclass(frozen=True)
class Dot:
    """An estimate on a logarithmic axis: its place, and where its whisker begins and ends, in percent."""

    estimate: Estimate
    at: float
    begins: float
    ends: float


def render_page(page: QualityPage) -> str:
    """Return the HTML, with no script and nothing to load; every text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("quality.html").render(
        page=page,
        spoken=spoken,
        pictures=pictures,
        steps=STEPS,
        descriptions={name: field.description for name, field in QualityReport.model_fields.items()},
        dots={name: distance_dots(columns) for name, columns in _observers(page).items()},
        charts=list(_charts(page)),
        epochs=sorted({epoch for name in shown_metrics() for epoch in page.history.get(name, ())}),
        size=chart,
        whisker=WHISKER,
    )


def shown_metrics() -> list[str]:
    """Return the names of the metrics of which the page has curves."""
    return [name for names in CHARTS.values() for name in names]


def spoken(name: str) -> str:
    """Return a figure's name as a reader would write it."""
    return name.replace("_", " ").replace("frechet", "Fréchet")


def distance_dots(columns: Mapping[str, QualityReport]) -> dict[str, Dot]:
    """Return the Fréchet distances of the columns on one logarithmic axis, from the least to the greatest end."""
    estimates = {title: report.frechet_distance for title, report in columns.items()}
    smallest = min((e.value for e in estimates.values() if e.value > 0), default=1.0) / 2

    def logarithm(value: float) -> float:
        return math.log10(max(value, smallest))

    ends = {t: [logarithm(e.value + side * e.noise) for side in (-WHISKER, 0, WHISKER)] for t, e in estimates.items()}
    low, high = min(end[0] for end in ends.values()), max(end[2] for end in ends.values())
    places = {title: [100 * (end - low) / (high - low or 1) for end in three] for title, three in ends.items()}
    return {title: Dot(estimates[title], at, begins, stops) for title, (begins, at, stops) in places.items()}


def _observers(page: QualityPage) -> dict[str, Mapping[str, QualityReport]]:
    return {"evaluator": page.evaluator, "judge": page.judge}


def _charts(page: QualityPage) -> Iterator[Chart]:
    for title, names in CHARTS.items():
        curves = {spoken(name.removesuffix("_loss")): page.history[name] for name in names if page.history.get(name)}
        if curves:
            yield draw_chart(title, curves, page.best_epoch, logarithmic=title in LOGARITHMIC)
