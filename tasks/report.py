"""What a pipeline run says at its end: a summary for scripts, and artifacts for people who look into Prefect."""

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dcgan.dataset import Manifest
from tasks.artifacts import publish, publish_link
from tasks.promotion import Promotion
from tasks.run import Run
from tasks.settings import read_settings
from tasks.sources import mask_credentials
from tasks.train import Trained


class Summary(BaseModel):
    """The result of the pipeline, as `--summary` writes it."""

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
    state_dir: Path
    resumed_from_epoch: int


class StageClock:
    """Tells how many seconds each stage took, one after the other."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage, and begin the next."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._began, 3)
        self._began = now


def summarize(
    run: Run, dataset: Manifest, trained: Trained, promotion: Promotion, seconds: dict[str, float]
) -> Summary:
    """Return the summary of a run, and show it in Prefect with a link to MLflow."""
    from tasks.tracking.store import EXPERIMENT, MODEL_NAME

    settings = read_settings()
    summary = Summary(
        run_id=run.run_id,
        experiment=EXPERIMENT,
        model_name=MODEL_NAME,
        model_version=promotion.version,
        recipe=run.configuration.recipe.name,
        seed=run.configuration.seed,
        dataset_digest=dataset.digest,
        seconds=seconds,
        quality=promotion.figures,
        promoted=promotion.promoted,
        verdict=promotion.reason,
        tracking_uri=mask_credentials(settings.tracking_uri),
        state_dir=settings.root,
        **trained.model_dump(),
    )
    publish(_markdown(summary), "training-summary", "What the training gave")
    return summary


def link_run(run: Run) -> None:
    """Link the Prefect flow run to its MLflow run, where MLflow has a server to link to."""
    if run.url:
        publish_link(run.url, f"MLflow run {run.run_id}", "mlflow-run")


def _markdown(summary: Summary) -> str:
    figures = {name.replace("_", " "): f"{value:,.4g}" for name, value in summary.metrics.items()}
    stages = {f"{stage}, s": f"{seconds:,.1f}" for stage, seconds in summary.seconds.items()}
    rows = "\n".join(f"| {name} | {value} |" for name, value in {**figures, **stages}.items())
    return f"""## {summary.model_name} version {summary.model_version}

Recipe `{summary.recipe}`, seed {summary.seed}, {summary.epochs} epochs, {summary.steps:,} steps.
MLflow run `{summary.run_id}` in `{summary.tracking_uri}`.

{summary.verdict}

| | |
|---|---|
{rows}
"""
