"""The HTML report of a generator: everything that an evaluation found, in one file that opens from disk."""

import base64
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from dcgan.evaluation.features import Role, display_role
from dcgan.evaluation.gate import Verdict
from dcgan.evaluation.memorization import NearestPairs
from dcgan.evaluation.metrics import Estimate
from dcgan.evaluation.report import QualityReport
from dcgan.generation import Generator, closed_walk
from dcgan.images import GRID_SIDE, animation_bytes, image_grid, png_bytes, to_uint8
from dcgan.recipe import LATENT_SIZE
from dcgan.report.chart import Chart, Curve, draw_chart
from dcgan.report.templates import environment
from dcgan.rng import fixed_latents

STEPS = 8  # from one fixed latent vector to the next
FRAME_MILLISECONDS = 60
SAMPLE_MILLISECONDS = 400  # for the images of the fixed latents themselves
WHISKER = 2  # standard errors in each direction
CHARTS = MappingProxyType(
    {
        "Fréchet distance": ("frechet_distance",),
        "Kernel distance": ("kernel_distance",),
        "Confidence": ("confidence",),
        "Class divergence, nats": ("class_divergence",),
        "Missing classes": ("missing_classes",),
        "Losses": ("generator_loss", "discriminator_loss"),
    }
)
LOGARITHMIC = ("Fréchet distance",)


class SampleImages(NamedTuple):
    """Images of a generator.

    Attributes:
        walk: Images of the fixed latents and of seven steps after each, float32 (128, 28, 28, 1) in [-1, 1].
        pairs: Generated images with their nearest training images.
    """

    walk: np.ndarray
    pairs: NearestPairs

    @property
    def samples(self) -> np.ndarray:
        """The images of the fixed latents, float32 (16, 28, 28, 1)."""
        return self.walk[::STEPS]


def sample_images(generator: Generator, seed: int, pairs: NearestPairs) -> SampleImages:
    """Return the sample images of a generator; `seed` is that of its training run, whose fixed latents are shown."""
    latents = fixed_latents(seed, GRID_SIDE**2, LATENT_SIZE)
    return SampleImages(generator(closed_walk(latents, STEPS)), pairs)


@dataclass(frozen=True, eq=False)
class ReportPage:
    """What the report shows.

    Attributes:
        title: What was evaluated.
        made: When it was made, in UTC.
        facts: Where it came from, by name.
        links: Addresses by what they lead to: what `facts` name, and what else there is about this generator.
        sentence: The verdict in words, or what takes its place.
        verdict: The decision of the gate; None where it did not decide.
        selection: Reports of the selection classifier by column: the version, the champion if any, then the baselines.
        held_out: Reports of the held-out classifier in the same columns.
        samples: Sample images.
        history: Metrics of the training run by name, each by epoch; those that no chart shows are ignored.
        best_epoch: The epoch to mark; None where none was evaluated.
    """

    title: str
    made: datetime
    facts: Mapping[str, str]
    links: Mapping[str, str]
    sentence: str
    verdict: Verdict | None
    selection: Mapping[str, QualityReport]
    held_out: Mapping[str, QualityReport]
    samples: SampleImages
    history: Mapping[str, Curve]
    best_epoch: int | None

    @property
    def classifiers(self) -> dict[Role, Mapping[str, QualityReport]]:
        """The reports by classifier."""
        return {"selection": self.selection, "held_out": self.held_out}


def render_report(page: ReportPage) -> str:
    """Return the HTML, with no script and nothing to load; every text is escaped."""
    filters = {
        "display_name": display_name,
        "display_role": display_role,
        "image": image_url,
        "grid": grid_url,
        "walk": walk_url,
    }
    return (
        environment(**filters)
        .get_template("report.html")
        .render(
            page=page,
            steps=STEPS,
            whisker=WHISKER,
            descriptions={name: field.description for name, field in QualityReport.model_fields.items()},
            dots={role: distance_dots(columns) for role, columns in page.classifiers.items()},
            charts=list(_charts(page)),
            epochs=sorted({epoch for name in shown_metrics() for epoch in page.history.get(name, ())}),
        )
    )


def shown_metrics() -> list[str]:
    """Return the names of the metrics of which the report has curves."""
    return [name for names in CHARTS.values() for name in names]


def display_name(name: str) -> str:
    """Return the name of a metric as a reader would write it, with its unit: "peak memory, MB"."""
    with_unit = re.sub("_(mb|seconds)$", lambda unit: {"mb": ", MB", "seconds": ", s"}[unit[1]], name)
    return with_unit.replace("_", " ").replace("frechet", "Fréchet")


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, as "1 epoch" or "2 epochs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def image_url(image: np.ndarray) -> str:
    """Return an image float (28, 28, 1) in [-1, 1] as a data URL."""
    return data_url("image/png", png_bytes(to_uint8(image[..., 0])))


def grid_url(images: np.ndarray) -> str:
    """Return images float (n, 28, 28, 1) in [-1, 1], n a multiple of 4, in rows of four as a data URL."""
    return data_url("image/png", png_bytes(image_grid(images)))


def walk_url(images: np.ndarray) -> str:
    """Return images float (n, 28, 28, 1) in [-1, 1] as an animation that loops and stays longer on the samples."""
    durations = [FRAME_MILLISECONDS if index % STEPS else SAMPLE_MILLISECONDS for index in range(len(images))]
    return data_url("image/gif", animation_bytes(to_uint8(images[..., 0]), durations))


def data_url(kind: str, content: bytes) -> str:
    """Return the content of a file of a media type, such as image/png, as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Dot:
    """An estimate on a logarithmic axis.

    Attributes:
        estimate: The estimate.
        at: Its position in percent of the axis.
        begins: Position of the lower end of its whisker.
        ends: Position of the upper end of its whisker.
    """

    estimate: Estimate
    at: float
    begins: float
    ends: float


def distance_dots(columns: Mapping[str, QualityReport]) -> dict[str, Dot]:
    """Return the Fréchet distances of the columns on one logarithmic axis, which spans all whiskers."""
    estimates = {title: report.frechet_distance for title, report in columns.items()}
    smallest = min((e.value for e in estimates.values() if e.value > 0), default=1.0) / 2

    def logarithm(value: float) -> float:
        return math.log10(max(value, smallest))

    ends = {
        title: [logarithm(e.value + side * e.standard_error) for side in (-WHISKER, 0, WHISKER)]
        for title, e in estimates.items()
    }
    low, high = min(end[0] for end in ends.values()), max(end[2] for end in ends.values())
    positions = {title: [100 * (end - low) / (high - low or 1) for end in three] for title, three in ends.items()}
    return {title: Dot(estimates[title], at, begins, stops) for title, (begins, at, stops) in positions.items()}


def _charts(page: ReportPage) -> Iterator[Chart]:
    for title, names in CHARTS.items():
        curves = {
            display_name(name.removesuffix("_loss")): page.history[name] for name in names if name in page.history
        }
        if chart := draw_chart(title, curves, page.best_epoch, logarithmic=title in LOGARITHMIC):
            yield chart
