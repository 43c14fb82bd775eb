"""What the tasks and flows return, as small frozen values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from dcgan.sweep import Point
from dcgan.training.checkpoint import Checkpoint

PromotionMode = Literal["auto", "manual"]


@dataclass(frozen=True)
class Trained:
    """The result of a training run.

    Attributes:
        checkpoint: The state after the last epoch.
        images_per_second: Median training speed of the epochs that this process trained.
        resumed_from_epoch: The epoch from which this process resumed; 0 where it began.
    """

    checkpoint: Checkpoint
    images_per_second: float
    resumed_from_epoch: int


class Promotion(BaseModel):
    """The result of a promotion, or of the decision not to promote.

    Attributes:
        version: Number of the version.
        promoted: Whether it is the champion now.
        reason: The reason, in words.
        metrics: quality/NAME and quality_heldout/NAME; empty where nothing was evaluated.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    promoted: bool
    reason: str
    metrics: dict[str, float] = {}

    @classmethod
    def unevaluated(cls, version: int, recipe: str) -> Self:
        """Return the result for a version whose recipe asks for no evaluation."""
        reason = f"The recipe {recipe} is not evaluated, so its versions are never promoted automatically."
        return cls(version=version, promoted=False, reason=reason)


class Links(BaseModel):
    """Addresses of MLflow's pages; None where the store has no server, and where there is no such page.

    Attributes:
        run: The training run.
        report: Its quality report.
        version: The registered version.
    """

    model_config = ConfigDict(frozen=True)

    run: str | None = None
    report: str | None = None
    version: str | None = None


class Generated(BaseModel):
    """The result of generating images."""

    model_config = ConfigDict(frozen=True)

    version: int
    count: int
    seed: int
    out: Path


class Summary(BaseModel):
    """The result of the training pipeline, as `--summary` writes it."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    experiment: str
    model_name: str
    model_version: int
    recipe: str
    seed: int
    epochs: int
    steps: int
    dataset_digest: str
    weights_sha256: str
    images_per_second: float
    seconds: dict[str, float]
    metrics: dict[str, float]
    quality: dict[str, float]
    promoted: bool
    verdict: str
    tracking_uri: str
    links: Links
    state_dir: Path
    resumed_from_epoch: int


class TrialResult(BaseModel):
    """A trial of a sweep.

    Attributes:
        number: Its number within the sweep, from 0.
        state: What became of it; `stopped` early because others were better at the same epoch.
        point: The seed, and the hyperparameters that vary.
        frechet_distance: The lowest Fréchet distance of its epochs, None where none was evaluated.
        generator_loss: Its last generator loss, in nats, None before the first epoch's end.
        run_id: Id of its MLflow run, None where it has none.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    state: Literal["running", "finished", "failed", "stopped"]
    point: Point
    frechet_distance: float | None
    generator_loss: float | None
    run_id: str | None


class SweepSummary(BaseModel):
    """The result of a sweep.

    Attributes:
        name: Its name with a part of its fingerprint.
        run_id: Id of its own MLflow run, below which its trials' runs are.
        trials: Its trials by number.
        logarithmic: The hyperparameters whose range is logarithmic.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    run_id: str
    trials: tuple[TrialResult, ...]
    logarithmic: tuple[str, ...] = ()
    tracking_uri: str
    state_dir: Path

    @property
    def objective(self) -> str:
        """What the trials are compared by: the Fréchet distance, or the generator loss where none was evaluated."""
        return "Fréchet distance" if self._evaluated else "last generator loss"

    def objective_of(self, trial: TrialResult) -> float | None:
        """Return a trial's value of it."""
        return trial.frechet_distance if self._evaluated else trial.generator_loss

    @property
    def _evaluated(self) -> bool:
        return any(trial.frechet_distance is not None for trial in self.trials)

    @property
    def finished(self) -> list[TrialResult]:
        """The trials that finished."""
        return [trial for trial in self.trials if trial.state == "finished"]

    @property
    def best(self) -> TrialResult | None:
        """The finished trial with the lowest Fréchet distance, None where none was evaluated."""
        evaluated = [trial for trial in self.finished if trial.frechet_distance is not None]
        return min(evaluated, key=lambda trial: trial.frechet_distance or 0, default=None)

    @property
    def sentence(self) -> str:
        """How the sweep ended."""
        others = {
            state: sum(trial.state == state for trial in self.trials) for state in ("failed", "stopped", "running")
        }
        counts = "".join(f", {count} {state}" for state, count in others.items() if count)
        if self.best is None:
            return f"{len(self.finished)} of {len(self.trials)} trials finished{counts}."
        point = ", ".join(f"{name}={value}" for name, value in self.best.point.items())
        return (
            f"{len(self.finished)} of {len(self.trials)} trials finished{counts}; the best is trial "
            f"{self.best.number} with {point}: Fréchet distance {self.best.frechet_distance:.4g}."
        )
