"""The page that compares training runs: parameters that differ, curves, final metrics, and sample grids."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from dcgan.evaluation.features import Role
from dcgan.evaluation.gate import MARGIN, Evaluation
from dcgan.evaluation.metrics import Estimate
from dcgan.evaluation.report import QualityReport
from dcgan.report.chart import LINES, Chart, draw_chart
from dcgan.report.render import data_url, display_name
from dcgan.report.templates import environment

ROLES: tuple[Role, ...] = ("selection", "held_out")
CURVES = ("generator_loss", "discriminator_loss", "frechet_distance", "images_per_second")
LOGARITHMIC = ("frechet_distance",)
# which value of a metric is the best; of the other metrics, those of real images are, not the lowest or highest
BEST: Mapping[str, Callable[..., tuple[int, Estimate]]] = MappingProxyType(
    {
        "frechet_distance": min,
        "kernel_distance": min,
        "class_divergence": min,
        "missing_classes": min,
        "coverage": max,
    }
)


class SampleGrid(NamedTuple):
    """The sample grid of an epoch.

    Attributes:
        epoch: The epoch; 0 before the first.
        png: The grid as a PNG file's bytes.
    """

    epoch: int
    png: bytes


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A training run.

    Attributes:
        run_id: Its id.
        name: Its name, which other runs may have too.
        url: Address of its page; None where there is none.
        facts: What happened in it, by name; runs may have different ones.
        parameters: What it was given, by name.
        digests: Digests of its dataset and code, by name.
        curves: Its metrics by name, each by epoch.
        evaluation: The evaluation of its generator; None where there is none.
        grid: Its last sample grid; None where there is none.
    """

    run_id: str
    name: str
    url: str | None
    facts: Mapping[str, str]
    parameters: Mapping[str, str]
    digests: Mapping[str, str]
    curves: Mapping[str, Mapping[int, float]]
    evaluation: Evaluation | None
    grid: SampleGrid | None


class Row(NamedTuple):
    """A metric of one classifier.

    Attributes:
        estimates: Its value for each run; None for one that was not evaluated.
        best: Position of the run whose value is better than all others; None where there is none.
    """

    estimates: Sequence[Estimate | None]
    best: int | None


def render_comparison(runs: Sequence[ComparedRun], made: datetime) -> str:
    """Return the HTML that compares two to eight runs, with no script and nothing to load; every text is escaped.

    Args:
        runs: The runs, in the order to show them.
        made: When the comparison was made, in UTC.
    """
    charts = list(_charts(runs))
    parameters = [run.parameters for run in runs]
    differing = different_values(parameters)
    reports = {
        role: [run.evaluation.candidate.report(role) if run.evaluation else None for run in runs] for role in ROLES
    }
    comparable = all(are_comparable(each) for each in reports.values())
    return (
        environment(display_name=display_name, png_url=lambda png: data_url("image/png", png))
        .get_template("comparison.html")
        .render(
            runs=runs,
            made=made,
            lines=LINES,
            facts=list(dict.fromkeys(name for run in runs for name in run.facts)),
            differences=differing | different_values([run.digests for run in runs]),
            equal=len({name for given in parameters for name in given}) - len(differing),
            same_digests=[name for name in runs[0].digests if len({run.digests.get(name) for run in runs}) == 1],
            charts=charts,
            epochs=sorted({epoch for chart in charts for curve in chart.curves.values() for epoch in curve}),
            metrics=_rows(reports, comparable=comparable),
            descriptions={name: field.description for name, field in QualityReport.model_fields.items()},
            evaluated=sum(run.evaluation is not None for run in runs),
            comparable=comparable,
            margin=MARGIN,
            ranked=[display_name(name) for name in BEST],
            latents=sentence_about_latents([run.parameters.get("seed") for run in runs]),
        )
    )


def different_values(columns: Sequence[Mapping[str, str]]) -> dict[str, list[str | None]]:
    """Return the values by name, None where a column has none, of each name whose values are not all equal."""
    rows = {name: [column.get(name) for column in columns] for name in dict.fromkeys(n for c in columns for n in c)}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def are_comparable(reports: Iterable[QualityReport | None]) -> bool:
    """Return whether those reports that exist are of one classifier, the same test images and as many images."""
    return len({(each.classifier, each.reference, each.images) for each in reports if each}) <= 1


def best_of(estimates: Sequence[Estimate | None], choose: Callable[..., tuple[int, Estimate]]) -> int | None:
    """Return the position of the estimate that is better than each other by more than MARGIN standard errors.

    The errors of two estimates are treated as independent, as the gate does. Without a second one, none is the best.

    Args:
        estimates: The estimates, None for those that do not exist.
        choose: `min` or `max`.
    """
    found = [(index, each) for index, each in enumerate(estimates) if each]
    if len(found) < 2:
        return None
    index, best = choose(found, key=lambda pair: pair[1].value)
    beaten = (
        abs(other.value - best.value) > MARGIN * math.hypot(other.standard_error, best.standard_error)
        for position, other in found
        if position != index
    )
    return index if all(beaten) else None


def sentence_about_latents(seeds: Sequence[str | None]) -> str:
    """Return which grids show the same fixed latent vectors: those of runs that have the same seed."""
    together = [[str(n) for n, each in enumerate(seeds, 1) if each == seed] for seed in dict.fromkeys(seeds) if seed]
    shared = [numbers for numbers in together if len(numbers) > 1]
    if not shared:
        return "No two runs have recorded the same seed, so their grids show different latent vectors."
    if len(shared[0]) == len(seeds):
        return "The runs have the same seed, so each place in the grids shows the same latent vector."
    groups = "; ".join(f"{', '.join(numbers[:-1])} and {numbers[-1]}" for numbers in shared)
    return f"Each place shows the same latent vector in the grids of runs with the same seed: {groups}."


def _rows(reports: Mapping[Role, Sequence[QualityReport | None]], *, comparable: bool) -> dict[str, dict[Role, Row]]:
    """Return the metrics that runs were evaluated by, each by both classifiers."""
    rows: dict[str, dict[Role, Row]] = {}
    for role, columns in reports.items():
        estimates = [report.estimates() if report else {} for report in columns]
        for name in dict.fromkeys(name for each in estimates for name in each):
            values = [each.get(name) for each in estimates]
            best = best_of(values, BEST[name]) if comparable and name in BEST else None
            rows.setdefault(name, {})[role] = Row(values, best)
    return rows


def _charts(runs: Sequence[ComparedRun]) -> Iterable[Chart]:
    for name in CURVES:
        title = display_name(name)
        curves = {str(number): run.curves.get(name, {}) for number, run in enumerate(runs, 1)}
        if chart := draw_chart(f"{title[0].upper()}{title[1:]}", curves, None, logarithmic=name in LOGARITHMIC):
            yield chart
