"""The gate: whether a candidate may replace the champion, and why."""

import math

from pydantic import BaseModel, ConfigDict, Field

from dcgan.errors import ModelError
from dcgan.evaluation.features import Role
from dcgan.evaluation.report import Baselines, QualityReport

# All but the last reject generators that are broken (docs/quality.md has the numbers); the comparison with the champion
# raises the level.
MAX_MISSING_CLASSES = 0
MIN_CONFIDENCE = 0.75  # mean probability of the most probable class
MAX_MEMORIZED_FRACTION = 0.05  # of images nearer to a training image than 99 % of the test images
UNTRAINED_FRACTION = 0.25  # of an untrained generator's Fréchet distance
MARGIN = 2.0  # standard errors by which a candidate must be better than the champion


class Check(BaseModel):
    """One condition, the value that was measured, and whether the condition is met."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="Name of the metric")
    value: float = Field(description="Value of the candidate")
    limit: float = Field(description="Value that it is compared with")
    passed: bool = Field(description="Whether the condition is met")
    sentence: str = Field(description="The result in words")


class Verdict(BaseModel):
    """The decision of the gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="Whether the candidate may become the champion")
    reason: str = Field(description="Why, in words")
    checks: tuple[Check, ...] = Field(description="All conditions that were checked")
    candidate: QualityReport = Field(description="Report of the candidate")
    champion: QualityReport | None = Field(description="Report of the champion; null where there was none")


def max_frechet_distance(baselines: Baselines) -> float:
    """Return the largest Fréchet distance that passes, on the scale of the classifier that the baselines are of.

    It is a quarter of an untrained generator's distance: 236 with MNIST's bundled selection classifier, where 100 steps
    of `fast` still have 572.
    """
    return UNTRAINED_FRACTION * baselines.untrained.frechet_distance.value


def decide(candidate: QualityReport, champion: QualityReport | None, baselines: Baselines) -> Verdict:
    """Return whether a candidate meets every condition and, where there is a champion, is significantly better.

    Args:
        candidate: Report of the candidate.
        champion: Report of the champion; None where there is none.
        baselines: Reference baselines of the same classifier.

    Raises:
        ModelError: The two reports are of different classifiers, test images or numbers of images.
    """
    if champion is not None:
        _require_comparable(candidate, champion)
    checks = _absolute_checks(candidate, baselines)
    if champion is not None:
        checks = (*checks, _compare(candidate, champion))
    failed = [check.sentence for check in checks if not check.passed]
    if failed:
        return _verdict(failed, checks, candidate, champion)
    met = "There is no champion yet, and the candidate meets every condition."
    return _verdict([met if champion is None else checks[-1].sentence], checks, candidate, champion)


def _verdict(
    sentences: list[str], checks: tuple[Check, ...], candidate: QualityReport, champion: QualityReport | None
) -> Verdict:
    passed = all(check.passed for check in checks)
    return Verdict(passed=passed, reason=" ".join(sentences), checks=checks, candidate=candidate, champion=champion)


def _require_comparable(candidate: QualityReport, champion: QualityReport) -> None:
    for field, what in (
        ("classifier", "a different classifier"),
        ("reference", "different test images"),
        ("images", "a different number of images"),
    ):
        here, there = getattr(candidate, field), getattr(champion, field)
        if here != there:
            raise ModelError(
                f"The champion was evaluated with {what} ({_short(there)}) than the candidate ({_short(here)}), "
                "so their metrics do not compare; evaluate the champion again."
            )


def _absolute_checks(report: QualityReport, baselines: Baselines) -> tuple[Check, ...]:
    return (
        _at_most("missing_classes", "number of missing classes", report, MAX_MISSING_CLASSES),
        _at_least("confidence", "mean confidence", report, MIN_CONFIDENCE),
        _at_most("memorized_fraction", "fraction of memorized images", report, MAX_MEMORIZED_FRACTION),
        _at_most("frechet_distance", "Fréchet distance", report, max_frechet_distance(baselines)),
    )


def _at_most(metric: str, name: str, report: QualityReport, limit: float) -> Check:
    estimate = report.estimates()[metric]
    return Check(
        metric=metric,
        value=estimate.value,
        limit=limit,
        passed=estimate.value <= limit,
        sentence=f"The candidate's {name} is {estimate}; at most {limit:.4g} is allowed.",
    )


def _at_least(metric: str, name: str, report: QualityReport, limit: float) -> Check:
    estimate = report.estimates()[metric]
    return Check(
        metric=metric,
        value=estimate.value,
        limit=limit,
        passed=estimate.value >= limit,
        sentence=f"The candidate's {name} is {estimate}; at least {limit:.4g} is required.",
    )


def _compare(candidate: QualityReport, champion: QualityReport) -> Check:
    """Compare the Fréchet distances, treating the errors of the two estimates as independent.

    The errors are those of drawing the generated images; the test images are taken as they are, so another test set
    might decide otherwise. Candidate and champion share latents, which the comparison does not make use of.
    """
    here, there = candidate.frechet_distance, champion.frechet_distance
    limit = there.value - MARGIN * math.hypot(here.standard_error, there.standard_error)
    passed = here.value < limit
    return Check(
        metric="frechet_distance",
        value=here.value,
        limit=limit,
        passed=passed,
        sentence=f"The candidate's Fréchet distance {here} is {'below' if passed else 'not below'} the champion's "
        f"{there} by more than {MARGIN:g} standard errors of their difference.",
    )


def _short(value: str | int) -> str:
    return value[:12] if isinstance(value, str) else str(value)


class VersionMetrics(BaseModel):
    """The reports of both classifiers on the same images of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(description="Number of the model version")
    selection: QualityReport = Field(description="Report of the selection classifier, which decides")
    held_out: QualityReport = Field(description="Report of the held-out classifier, which is only reported")

    def report(self, role: Role) -> QualityReport:
        """Return the report of a classifier."""
        return self.selection if role == "selection" else self.held_out

    def metrics(self) -> dict[str, float]:
        """Return all metrics: quality/NAME of the selection classifier, quality_heldout/NAME of the held-out one."""
        return {
            **{f"quality/{name}": value for name, value in self.selection.metrics().items()},
            **{f"quality_heldout/{name}": value for name, value in self.held_out.metrics().items()},
        }


class Evaluation(BaseModel):
    """A version and the champion, evaluated with the same classifiers, test images and latents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_digest: str = Field(description="Digest of the dataset whose test images were compared with")
    same_dataset: bool = Field(
        description="Whether the candidate was trained on that dataset; otherwise nothing is recorded"
    )
    candidate: VersionMetrics = Field(description="Metrics of the version that was evaluated")
    champion: VersionMetrics | None = Field(
        description="Metrics of the champion; null where there is none or the candidate is the champion"
    )
    selection_baselines: Baselines = Field(description="Reference baselines of the selection classifier")
    held_out_baselines: Baselines = Field(description="Reference baselines of the held-out classifier")
    verdict: Verdict | None = Field(
        description="Decision of the gate; null where the candidate is the champion, which is not compared with itself"
    )

    def columns(self, role: Role) -> dict[str, QualityReport]:
        """Return the reports of one classifier by column title: the version, the champion and the baselines."""
        baselines = self.selection_baselines if role == "selection" else self.held_out_baselines
        return {
            f"version {self.candidate.version}": self.candidate.report(role),
            **({f"champion {self.champion.version}": self.champion.report(role)} if self.champion else {}),
            "training images": baselines.train,
            "noisy": baselines.noisy,
            "blurred": baselines.blurred,
            "untrained": baselines.untrained,
        }

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        number = self.candidate.version
        if self.verdict is None:
            return f"Version {number} is the champion."
        if not self.same_dataset:
            return f"{self.verdict.reason} Version {number} was trained on other data, so nothing is recorded."
        if self.verdict.passed:
            return f"{self.verdict.reason} To promote it: dcgan promote --version {number}"
        return self.verdict.reason

    @property
    def champion_version(self) -> int | None:
        """The version that the candidate was compared with."""
        return self.champion.version if self.champion else None
