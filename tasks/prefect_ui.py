"""Everything that people see of a flow run in Prefect, and of training on a terminal.

Artifacts (progress, links, tables), and the sentence beside the flow run's final state. Nothing depends on whether
Prefect accepts them.
"""

import base64
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from threading import Event, Thread
from types import TracebackType
from typing import Self, TypeVar, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.states import Completed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dcgan.evaluation.gate import Evaluation
from dcgan.evaluation.report import QualityReport
from dcgan.training.checkpoint import EpochRecord
from dcgan.training.loop import Progress as TrainingProgress
from tasks.results import Promotion, Summary, SweepSummary
from tasks.sweep_report import markdown_table, plot_png
from tasks.training_run import TrainingRun
from tracking.tags import REPORT_PAGE

logger = logging.getLogger("dcgan.train")

PROGRESS_KEY = "training-progress"
PROGRESS_SECONDS = 5.0  # every update is an HTTP request

R = TypeVar("R")


def completed(result: R, sentence: str) -> R:
    """Return a flow's return value that gives its Completed state the message `sentence`; callers get `result`."""
    return cast(R, Completed(data=result, message=sentence))


def publish_run_link(run: TrainingRun) -> None:
    """Link the flow run to its MLflow run, where MLflow has a server to link to."""
    if run.url and FlowRunContext.get() is not None:
        with _if_prefect_answers("mlflow-run"):
            create_link_artifact(run.url, link_text=f"MLflow run {run.run_id}", key="mlflow-run")


def publish_promotion(promotion: Promotion) -> None:
    """Show the result of a promotion."""
    _publish(promotion.reason, "promotion", f"Promotion of version {promotion.version}")


def publish_evaluation(evaluation: Evaluation) -> None:
    """Show an evaluation: the verdict, and each metric beside its reference baselines."""
    version, verdict = evaluation.candidate.version, evaluation.verdict
    if verdict is None:
        heading = f"## Version {version}, the champion"
    else:
        heading = f"## Version {version} {'passed' if verdict.passed else 'did not pass'}\n\n{verdict.reason}"
    pointer = f"\nWith samples and curves: `{REPORT_PAGE}` of the version's MLflow run.\n"
    markdown = f"""{heading}

### Selection classifier

{_metrics_table(evaluation.columns("selection"))}

### Held-out classifier, which has no part in the verdict

{_metrics_table(evaluation.columns("held_out"))}
{pointer if evaluation.same_dataset else ""}"""
    _publish(markdown, "evaluation", f"Quality of version {version}")


def publish_summary(summary: Summary) -> None:
    """Show the result of the training pipeline."""
    metrics = {name.replace("_", " "): f"{value:,.4g}" for name, value in summary.metrics.items()}
    stages = {f"{stage}, s": f"{seconds:,.1f}" for stage, seconds in summary.seconds.items()}
    rows = "\n".join(f"| {name} | {value} |" for name, value in {**metrics, **stages}.items())
    markdown = f"""## {summary.model_name} version {summary.model_version}

Recipe `{summary.recipe}`, seed {summary.seed}, {summary.epochs} epochs, {summary.steps:,} steps.
MLflow run `{summary.run_id}` in `{summary.tracking_uri}`.

{summary.verdict}

| | |
|---|---|
{rows}
"""
    _publish(markdown, "training-summary", "Result of the training run")


def publish_sweep(summary: SweepSummary) -> None:
    """Show the trials of a sweep, as a table and as a plot."""
    plot = base64.b64encode(plot_png(summary)).decode()
    markdown = f"{markdown_table(summary)}\n![The trials](data:image/png;base64,{plot})\n"
    _publish(markdown, "sweep", f"Trials of the sweep {summary.name}")


class ProgressDisplay:
    """Shows the progress of training: a bar per epoch on a terminal, else a log line, and an artifact in Prefect.

    The artifact is updated by a thread: Prefect's client retries for a minute when the server is away, and training
    does not wait for that.
    """

    def __init__(self) -> None:
        self._bar = _progress_bar() if sys.stderr.isatty() else None
        self._percent = 0.0
        self._ended = Event()
        # the thread finds the flow run by its context
        update = partial(copy_context().run, self._update_until_ended)
        self._updater = Thread(target=update, name="progress", daemon=True) if FlowRunContext.get() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        self._ended.set()
        if self._updater and self._updater.ident:
            self._updater.join(PROGRESS_SECONDS)

    def show(self, progress: TrainingProgress) -> None:
        """Show the progress that the training loop reports."""
        self._percent = 100 * progress.fraction
        if self._updater and not self._updater.ident:
            self._updater.start()
        if self._bar:
            if not self._bar.live.is_started:
                self._bar.start()
            if not self._bar.tasks or self._bar.finished:
                self._bar.add_task(f"epoch {progress.epoch}/{progress.epochs}", total=progress.steps_per_epoch, text="")
            left, speed = progress.seconds_left, progress.images_per_second
            text = f"loss G {progress.generator_loss:.2f} D {progress.discriminator_loss:.2f}"
            if left is not None and progress.fraction < 1:
                text += f"  {speed:,.0f} images/s  {_clock(left)} left"
            self._bar.update(self._bar.tasks[-1].id, completed=progress.step, text=text)

    def finish_epoch(self, record: EpochRecord) -> None:
        """Leave a line about an epoch that is finished and recorded."""
        metrics = record.metrics
        line = (
            f"generator loss {metrics['generator_loss']:.3f}, discriminator loss {metrics['discriminator_loss']:.3f}, "
            f"{metrics['images_per_second']:,.0f} images/s, {metrics['epoch_seconds']:.1f} s"
        )
        if "frechet_distance" in metrics:
            line += f", Fréchet distance {metrics['frechet_distance']:.4g}"
        if self._bar and self._bar.tasks:
            self._bar.update(self._bar.tasks[-1].id, text=line)
        else:
            logger.info("Epoch %d: %s.", record.epoch, line)

    def _update_until_ended(self) -> None:
        artifact: UUID | None = None
        shown = -1.0
        while not self._ended.is_set() or shown != self._percent:
            if shown != self._percent:
                shown = self._percent
                with _if_prefect_answers(PROGRESS_KEY):
                    if artifact is None:
                        created = create_progress_artifact(shown, key=PROGRESS_KEY, description="Training")
                        artifact = cast(UUID, created)  # in synchronous code it is not a coroutine
                    else:
                        update_progress_artifact(artifact, progress=shown)
            self._ended.wait(PROGRESS_SECONDS)


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    return Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def _metrics_table(columns: dict[str, QualityReport]) -> str:
    head = [f"| metric | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    estimates = {title: report.estimates() for title, report in columns.items()}
    names = next(iter(estimates.values()))
    rows = [f"| {name.replace('_', ' ')} | {' | '.join(str(e[name]) for e in estimates.values())} |" for name in names]
    return "\n".join(head + rows)


def _publish(markdown: str, key: str, description: str) -> None:
    if FlowRunContext.get() is not None:
        with _if_prefect_answers(key):
            create_markdown_artifact(markdown, key=key, description=description)


@contextmanager
def _if_prefect_answers(key: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever the server's trouble is, the work itself continues
        logger.warning("Prefect did not accept the artifact %s: %s", key, error)
