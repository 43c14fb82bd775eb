"""What evaluating a version gives: the figures of both classifiers, the champion's beside them, and the verdict."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dcgan.quality.bounds import Bounds
from dcgan.quality.gate import Verdict
from dcgan.quality.report import QualityReport


class Figures(BaseModel):
    """What both classifiers say about the same images of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    quality: QualityReport = Field(description="the evaluator's, which decide")
    judge: QualityReport = Field(description="the judge's, which only report")

    def metrics(self) -> dict[str, float]:
        """Return every figure by its name in MLflow: quality/NAME and judge/NAME."""
        reports = {"quality": self.quality, "judge": self.judge}
        return {f"{who}/{name}": value for who, report in reports.items() for name, value in report.metrics().items()}


class Evaluation(BaseModel):
    """A version and the champion, evaluated side by side: same classifiers, same test images, same latents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_digest: str = Field(description="of the data set whose test half they were compared with")
    counts: bool = Field(description="whether the candidate was trained on that data set; else nothing is recorded")
    candidate: Figures
    champion: Figures | None = Field(description="null where there is none, or the candidate is the champion")
    quality_bounds: Bounds
    judge_bounds: Bounds
    verdict: Verdict | None = Field(description="null where the candidate is the champion: it is not its own rival")

    def columns(self, who: Literal["quality", "judge"]) -> dict[str, QualityReport]:
        """Return what stands beside each other for a reader: the version, the champion, the floor, the ceilings."""
        bounds = self.quality_bounds if who == "quality" else self.judge_bounds
        return {
            f"version {self.candidate.version}": getattr(self.candidate, who),
            **({f"champion {self.champion.version}": getattr(self.champion, who)} if self.champion else {}),
            "training images": bounds.floor,
            "noisy": bounds.noisy,
            "blurred": bounds.blurred,
            "untrained": bounds.untrained,
        }

    @property
    def sentence(self) -> str:
        """What follows from the figures."""
        number = self.candidate.version
        if self.verdict is None:
            return f"Version {number} is the champion."
        if not self.counts:
            return f"{self.verdict.reason} Version {number} was trained on other data, so nothing is recorded."
        if self.verdict.passed:
            return f"{self.verdict.reason} To promote it: python -m flows.promote --version {number}"
        return self.verdict.reason

    @property
    def champion_version(self) -> int | None:
        """The version that the candidate was compared with."""
        return self.champion.version if self.champion else None
