"""The training task: drives the library's loop, saves its state, and records every epoch in MLflow."""

import logging
import statistics

from prefect import task
from prefect.cache_policies import NO_CACHE

from dcgan.data.dataset import Dataset
from dcgan.errors import TrackingError
from dcgan.evaluation.evaluate import epoch_evaluator
from dcgan.evaluation.examine import References
from dcgan.files import remove_folder
from dcgan.recipe import DeviceChoice
from dcgan.training.checkpoint import Checkpoint
from dcgan.training.device import DeviceKind, choose_devices
from dcgan.training.loop import Progress
from dcgan.training.loop import train as epoch_reports
from dcgan.training.run_folder import RunFolder
from tasks.context import Context
from tasks.prefect_ui import ProgressDisplay
from tasks.results import Trained
from tasks.retries import recording_task
from tasks.training_run import TrainingRun
from tracking.epochs import EpochLog
from tracking.runs import system_metrics, tag_run
from tracking.tags import DEVICE, EXACT

logger = logging.getLogger("dcgan.train")


@task(cache_policy=NO_CACHE)
def train(
    context: Context, run: TrainingRun, dataset: Dataset, references: References, device: DeviceChoice
) -> Trained:
    """Train to the recipe's last epoch, from the run's newest state, and record every epoch.

    It is called, never submitted: the main thread is where SIGTERM arrives.
    """
    folder = RunFolder(run.folder)
    log = EpochLog(context.store, run.lease)
    devices = choose_devices(device)
    start = run.newest_state(context.store) if run.resumed else None
    tag_run(context.store, run.run_id, {DEVICE: ", ".join(devices.names), **exactness(devices.kind, start)})
    if start:
        _record(start, folder, log)
    evaluate = epoch_evaluator(references["selection"]) if run.configuration.recipe.evaluate_every else None
    checkpoint, speeds = start, []
    with ProgressDisplay() as display, system_metrics(context.store, run.run_id):

        def on_progress(progress: Progress) -> None:
            run.lease.check()
            display.show(progress)

        for report in epoch_reports(run.configuration, dataset.train, start, device, evaluate, on_progress):
            checkpoint = report.checkpoint
            folder.save(checkpoint)
            _record(checkpoint, folder, log)
            display.finish_epoch(report.record, report.grid)
            speeds.append(report.record.metrics["images_per_second"])
    if checkpoint is None:
        raise AssertionError("a recipe has at least one epoch")
    last = checkpoint.metadata.records[-1]
    return Trained(
        checkpoint=checkpoint,
        images_per_second=statistics.median(speeds or [last.metrics["images_per_second"]]),
        resumed_from_epoch=start.epoch if start else 0,
    )


@recording_task
def record(context: Context, run: TrainingRun, checkpoint: Checkpoint) -> None:
    """Record what MLflow still misses of a training run that is finished.

    Raises:
        TrackingError: The store failed; nothing is lost.
        LeaseLostError: Another process has taken over the run.
    """
    folder = RunFolder(run.folder)
    try:
        log = EpochLog(context.store, run.lease)
        _upload(checkpoint, folder, log)
        log.record_best(checkpoint)
    except TrackingError as error:
        raise type(error)(
            f"{str(error).rstrip('.')}; the training is finished and saved in {folder.path}, "
            "and the same command records what MLflow misses without training again."
        ) from error


def exactness(kind: DeviceKind, start: Checkpoint | None) -> dict[str, str]:
    """Return the tag that says whether the run's bits are reproducible; one that resumes exactly keeps its tag."""
    reasons = start.warn_if_inexact() if start else []
    if kind == "gpu":
        return {EXACT: "not promised: operations of GPUs may sum in another order each time"}
    if start and reasons:
        return {EXACT: f"not promised: resumed from epoch {start.epoch} although {'; '.join(reasons)}"}
    return {} if start else {EXACT: "yes"}


def _record(checkpoint: Checkpoint, folder: RunFolder, log: EpochLog) -> None:
    """Bring the retained checkpoints and MLflow up to date, as far as MLflow answers.

    Any of it may be done already, so a resumed training run begins with this.
    """
    recipe = checkpoint.metadata.configuration.recipe
    if checkpoint.epoch % recipe.checkpoint_every == 0 or checkpoint.epoch == recipe.epochs:
        folder.retain(checkpoint.epoch)
    try:
        _upload(checkpoint, folder, log)
    except TrackingError as error:
        logger.warning("%s Training continues; what MLflow misses is kept and recorded later.", error)


def _upload(checkpoint: Checkpoint, folder: RunFolder, log: EpochLog) -> None:
    log.record(checkpoint)
    for retained in folder.retained():
        log.upload_checkpoint(retained)
        remove_folder(retained)
