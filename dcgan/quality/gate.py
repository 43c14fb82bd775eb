"""The gate: whether a candidate may take the champion's place, and why."""

import math

from pydantic import BaseModel, ConfigDict, Field

from dcgan.errors import ModelError
from dcgan.quality.bounds import Bounds
from dcgan.quality.report import QualityReport

UNTRAINED_SHARE = 0.25


class Gate(BaseModel):
    """The conditions.

    The defaults keep out what is broken (docs/quality.md has the figures); it is the comparison with the champion that
    raises the level. The bound on the Fréchet distance is in the units of MNIST's bundled evaluator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_frechet_distance: float = Field(default=250, gt=0, description="no candidate passes above it")
    max_missing_classes: int = Field(default=0, ge=0, description="classes that a candidate may lack")
    min_confidence: float = Field(default=0.75, ge=0, le=1, description="mean probability of the most probable class")
    max_copied_share: float = Field(
        default=0.05, ge=0, le=1, description="share of images nearer to a training image than 99 % of the test images"
    )
    margin: float = Field(default=2, ge=0, description="standard errors by which a candidate must beat the champion")


class Check(BaseModel):
    """One condition, what was found, and whether it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: str
    found: float
    limit: float
    passed: bool
    sentence: str


class Verdict(BaseModel):
    """The gate's answer.

    Attributes:
        passed: whether the candidate may become the champion.
        reason: why, in words.
        checks: every condition that was looked at.
        candidate: the candidate's figures.
        champion: the champion's, or None where there was none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool
    reason: str
    checks: tuple[Check, ...]
    candidate: QualityReport
    champion: QualityReport | None


def gate_for(bounds: Bounds) -> Gate:
    """Return the gate of a data set, whose classifier's distances have a scale of their own.

    The bound on the Fréchet distance is a quarter of what an untrained generator gets: with MNIST's bundled evaluator
    236, where a hundred steps of `fast` still have 572.
    """
    return Gate(max_frechet_distance=UNTRAINED_SHARE * bounds.untrained.frechet_distance.value)


def decide(candidate: QualityReport, champion: QualityReport | None, gate: Gate) -> Verdict:
    """Return whether `candidate` meets every condition and, where there is a champion, is better beyond the noise.

    Raises:
        ModelError: the two were not evaluated by the same classifier, against the same test images, with equally many
            images; evaluate the champion again.
    """
    if champion is not None:
        _refuse_unlike(candidate, champion)
    checks = _absolute_checks(candidate, gate)
    if champion is not None:
        checks = (*checks, _compare(candidate, champion, gate.margin))
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


def _refuse_unlike(candidate: QualityReport, champion: QualityReport) -> None:
    for field, what in (("evaluator", "evaluator"), ("reference", "test images"), ("images", "number of images")):
        here, there = getattr(candidate, field), getattr(champion, field)
        if here != there:
            raise ModelError(
                f"The champion's figures are of another {what} ({_short(there)}) than the candidate's "
                f"({_short(here)}), so they do not compare; evaluate the champion again."
            )


def _absolute_checks(report: QualityReport, gate: Gate) -> tuple[Check, ...]:
    return (
        _at_most("missing_classes", "number of missing classes", report, gate.max_missing_classes),
        _at_least("confidence", "mean confidence", report, gate.min_confidence),
        _at_most("copied_share", "share of images that are copies", report, gate.max_copied_share),
        _at_most("frechet_distance", "Fréchet distance", report, gate.max_frechet_distance),
    )


def _at_most(figure: str, name: str, report: QualityReport, limit: float) -> Check:
    found = report.estimates()[figure]
    return Check(
        figure=figure,
        found=found.value,
        limit=limit,
        passed=found.value <= limit,
        sentence=f"The candidate's {name} is {found}; at most {limit:.4g} is allowed.",
    )


def _at_least(figure: str, name: str, report: QualityReport, limit: float) -> Check:
    found = report.estimates()[figure]
    return Check(
        figure=figure,
        found=found.value,
        limit=limit,
        passed=found.value >= limit,
        sentence=f"The candidate's {name} is {found}; at least {limit:.4g} is demanded.",
    )


def _compare(candidate: QualityReport, champion: QualityReport, margin: float) -> Check:
    """Compare Fréchet distances, taking the two estimates' noise as independent.

    They share test images and latents, so the true noise of the difference is smaller: the gate errs toward the
    champion.
    """
    here, there = candidate.frechet_distance, champion.frechet_distance
    limit = there.value - margin * math.hypot(here.noise, there.noise)
    passed = here.value < limit
    words = "below" if passed else "not below"
    return Check(
        figure="frechet_distance",
        found=here.value,
        limit=limit,
        passed=passed,
        sentence=f"The candidate's Fréchet distance {here} is {words} the champion's {there} "
        f"by more than {margin:g} standard errors of their difference.",
    )


def _short(value: str | int) -> str:
    return value[:12] if isinstance(value, str) else str(value)
