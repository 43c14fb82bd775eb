"""Everything that people see of a flow run in Prefect, and of training on a terminal.

Artifacts (progress, samples, links, tables), and the sentence beside the flow run's final state. Nothing depends on
whether Prefect accepts them.
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
from typing import Any, NamedTuple, Self, TypeVar, cast
from uuid import UUID

import numpy as np
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.states import Completed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dcgan.evaluation.gate import Evaluation
from dcgan.evaluation.report import QualityReport
from dcgan.images import image_grid, png_bytes, upscaled
from dcgan.report.render import counted, display_name
from dcgan.training.checkpoint import EpochRecord
from dcgan.training.loop import Progress as TrainingProgress
from tasks.results import Generated, Promotion, Summary, SweepSummary
from tasks.sweep_report import markdown_table, plot_png
from tasks.training_run import TrainingRun
from tracking.tags import MODEL_NAME

logger = logging.getLogger("dcgan.train")

PROGRESS_KEY, SAMPLES_KEY = "training-progress", "samples"
PROGRESS_SECONDS = 5.0  # every update is an HTTP request
PREVIEW_IMAGES = 16

R = TypeVar("R")


def completed(result: R, sentence: str) -> R:
    """Return a flow's return value that gives its Completed state the message `sentence`; callers get `result`."""
    return cast(R, Completed(data=result, message=sentence))


def publish_run_link(run: TrainingRun) -> None:
    """Link the flow run to its MLflow run, where MLflow has a server to link to."""
    if run.url and FlowRunContext.get() is not None:
        with _if_prefect_answers("mlflow-run"):
            create_link_artifact(
                run.url,
                link_text=f"MLflow run {run.run_id}",
                key="mlflow-run",
                description="The training run in MLflow",
            )


def publish_promotion(promotion: Promotion) -> None:
    """Show the result of a promotion."""
    _publish(promotion.reason, "promotion", f"Promotion of version {promotion.version}")


def announce_champion(version: int, reason: str, url: str | None) -> None:
    """Send the event that another version is in service, by which `dcgan deploy --notify` sends its messages."""
    if FlowRunContext.get() is not None:
        emit_event(
            event="dcgan.champion.changed",
            resource={
                "prefect.resource.id": f"dcgan.registered-model.{MODEL_NAME}",
                "prefect.resource.name": MODEL_NAME,
            },
            payload={"version": version, "reason": reason, "url": url or ""},
        )


def publish_generated(generated: Generated, images: np.ndarray) -> None:
    """Show the first images, float (n, 28, 28, 1) in [-1, 1], of those that were generated, and where they are."""
    shown = images[:PREVIEW_IMAGES]
    rest = np.full((PREVIEW_IMAGES - len(shown), *shown.shape[1:]), -1, shown.dtype)
    grid = _embedded(_png(image_grid(np.concatenate([shown, rest]))), f"the first {len(shown)} images")
    where = f"{generated.count} images of version {generated.version}, seed {generated.seed}, in `{generated.out}`."
    _publish(f"{grid}\n\n{where}\n", "generated", f"Images of version {generated.version}")


def publish_evaluation(evaluation: Evaluation, report_url: str | None) -> None:
    """Show an evaluation: the verdict, each metric beside its reference baselines, and a link to the report."""
    version, verdict = evaluation.candidate.version, evaluation.verdict
    if verdict is None:
        heading = f"## Version {version}, the champion"
    else:
        heading = f"## Version {version} {'passed' if verdict.passed else 'did not pass'}\n\n{verdict.reason}"
    pointer = f"\n[The report, with samples and curves]({report_url})\n" if report_url else ""
    markdown = f"""{heading}

### Selection classifier

{_metrics_table(evaluation.columns("selection"))}

### Held-out classifier, which has no part in the verdict

{_metrics_table(evaluation.columns("held_out"))}
{pointer}"""
    _publish(markdown, "evaluation", f"Quality of version {version}")


def publish_summary(summary: Summary) -> None:
    """Show the result of the training pipeline."""
    metrics = {display_name(name): f"{value:,.4g}" for name, value in summary.metrics.items()}
    stages = {f"{stage}, s": f"{seconds:,.1f}" for stage, seconds in summary.seconds.items()}
    rows = "\n".join(f"| {name} | {value} |" for name, value in {**metrics, **stages}.items())
    pages = {"MLflow run": summary.links.run, "report": summary.links.report, "version": summary.links.version}
    links = " · ".join(f"[{name}]({url})" for name, url in pages.items() if url)
    markdown = f"""## {summary.model_name} version {summary.model_version}

Recipe `{summary.recipe}`, seed {summary.seed}, {counted(summary.epochs, "epoch")}, {summary.steps:,} steps.

{links or f"MLflow run `{summary.run_id}` in `{summary.tracking_uri}`."}

{summary.verdict}

| | |
|---|---|
{rows}
"""
    _publish(markdown, "training-summary", "Result of the training run")


def publish_sweep(summary: SweepSummary) -> None:
    """Show the trials of a sweep, as a table and as a plot."""
    markdown = f"{markdown_table(summary)}\n{_embedded(plot_png(summary), 'the trials')}\n"
    _publish(markdown, "sweep", f"Trials of the sweep {summary.name}")


class _Shown(NamedTuple):
    """What Prefect shows of the training: the percentage, the words beside it, and the newest samples as Markdown."""

    percent: float = 0.0
    text: str = "Training"
    samples: str | None = None


class ProgressDisplay:
    """Shows the progress of training: a bar per epoch on a terminal, else a log line, and artifacts in Prefect.

    The artifacts are updated by a thread: Prefect's client retries for a minute when the server is away, and training
    does not wait for that.
    """

    def __init__(self) -> None:
        self._bar = _progress_bar() if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO) else None
        self._shown = _Shown()
        self._epochs = self._left = ""  # the number of all epochs and the time that is left, as words
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
        self._epochs, self._left = f" of {progress.epochs}", ""
        if progress.seconds_left and progress.fraction < 1:
            self._left = f", {_clock(progress.seconds_left)} left"
        text = f"Epoch {progress.epoch}{self._epochs}{self._left}"
        self._shown = self._shown._replace(percent=100 * progress.fraction, text=text)
        if self._updater and not self._updater.ident:
            self._updater.start()
        if self._bar:
            if not self._bar.live.is_started:
                self._bar.start()
            if not self._bar.tasks or self._bar.finished:
                self._bar.add_task(f"epoch {progress.epoch}/{progress.epochs}", total=progress.steps_per_epoch, text="")
            losses = f"loss G {progress.generator_loss:.2f} D {progress.discriminator_loss:.2f}"
            speed = f", {progress.images_per_second:,.0f} images/s{self._left}" if self._left else ""
            self._bar.update(self._bar.tasks[-1].id, completed=progress.step, text=losses + speed)

    def finish_epoch(self, record: EpochRecord, grid: np.ndarray) -> None:
        """Leave a line about an epoch that is finished and recorded, and show its sample grid, uint8 (112, 112)."""
        metrics = record.metrics
        line = (
            f"generator loss {metrics['generator_loss']:.3f}, discriminator loss {metrics['discriminator_loss']:.3f}, "
            f"{metrics['images_per_second']:,.0f} images/s, {metrics['epoch_seconds']:.1f} s"
        )
        if "frechet_distance" in metrics:
            line += f", Fréchet distance {metrics['frechet_distance']:.4g}"
        samples = f"{_embedded(_png(grid), f'samples of epoch {record.epoch}')}\n\nEpoch {record.epoch}: {line}.\n"
        self._shown = self._shown._replace(samples=samples)
        if self._bar and self._bar.tasks:
            self._bar.update(self._bar.tasks[-1].id, text=line)
        else:
            logger.info("Epoch %d%s: %s%s.", record.epoch, self._epochs, line, self._left)

    def _update_until_ended(self) -> None:
        progress = samples = None
        done = _Shown(percent=-1)
        while not self._ended.is_set() or done != self._shown:
            shown = self._shown
            with _if_prefect_answers(PROGRESS_KEY):
                if progress is None:
                    created = create_progress_artifact(shown.percent, key=PROGRESS_KEY, description=shown.text)
                    progress = cast(UUID, created)  # in synchronous code it is not a coroutine
                elif done != shown:
                    _update(progress, data=shown.percent, description=shown.text)
            with _if_prefect_answers(SAMPLES_KEY):
                if shown.samples and samples is None:
                    created = create_markdown_artifact(shown.samples, key=SAMPLES_KEY, description="Samples")
                    samples = cast(UUID, created)
                elif shown.samples != done.samples:
                    _update(cast(UUID, samples), data=shown.samples)
            done = shown
            self._ended.wait(PROGRESS_SECONDS)


def _update(artifact: UUID, **changes: Any) -> None:
    """Change an artifact, without the event that Prefect's own function sends: `--watch` would print each."""
    with get_client(sync_client=True) as client:
        client.request("PATCH", "/artifacts/{id}", json=changes, path_params={"id": artifact}).raise_for_status()


def _png(grid: np.ndarray) -> bytes:
    return png_bytes(upscaled(grid))


def _embedded(png: bytes, text: str) -> str:
    """Return a PNG file as Markdown that needs no server, with what it shows in words."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})"


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
    rows = [f"| {display_name(name)} | {' | '.join(str(e[name]) for e in estimates.values())} |" for name in names]
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
