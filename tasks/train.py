"""The training task: drives the library's loop, keeps its state on disk, and brings MLflow up to date every epoch."""

import logging
import shutil
import statistics
from typing import TYPE_CHECKING

from prefect import task
from pydantic import BaseModel, ConfigDict

from dcgan.dataset import Manifest
from dcgan.errors import TrackingError
from dcgan.run_folder import RunFolder
from tasks.progress import ProgressDisplay
from tasks.quiet import import_tensorflow
from tasks.references import reference_of
from tasks.run import Run
from tasks.settings import read_settings
from tasks.state import final_state, newest_state

if TYPE_CHECKING:
    from dcgan.checkpoint import Checkpoint
    from dcgan.device import DeviceChoice, DeviceKind
    from dcgan.training import Progress
    from tasks.tracking.epoch_log import EpochLog

logger = logging.getLogger("dcgan.train")

EXACT = "dcgan.exact"  # whether another run of the same configuration, data, code and machine ends in the same bits


class Trained(BaseModel):
    """What a training ended with; its state is the newest in the run's folder."""

    model_config = ConfigDict(frozen=True)

    epochs: int
    steps: int
    metrics: dict[str, float]
    weights_sha256: str
    images_per_second: float
    resumed_from_epoch: int


def require_device(device: "DeviceChoice") -> None:
    """Refuse a device that is not there before anything is done; only to ask for a GPU costs TensorFlow's import.

    Raises:
        DeviceError: there is no GPU.
    """
    if device == "gpu":
        import_tensorflow()
        from dcgan.device import choose_devices

        choose_devices(device)


@task
def train(run: Run, dataset: Manifest, device: "DeviceChoice") -> Trained:
    """Train to the recipe's last epoch, from the run's newest state, and record every epoch.

    It is called, never submitted: the main thread is where SIGTERM arrives.
    """
    import_tensorflow()
    from dcgan.dataset import check_split
    from dcgan.device import choose_devices
    from dcgan.parquet_images import ParquetImages
    from dcgan.quality.while_training import epoch_evaluator
    from dcgan.training import train as epoch_reports
    from tasks.tracking.epoch_log import EpochLog
    from tasks.tracking.runs import system_metrics, tag_run
    from tasks.tracking.store import Store

    settings = read_settings()
    store = Store(settings)
    folder = RunFolder(run.folder)
    log = EpochLog(store, run.lease)
    devices = choose_devices(device)
    start = newest_state(run, store) if run.resumed else None
    tag_run(store, run.run_id, {"dcgan.device": ", ".join(devices.names), **exactness(devices.kind, start)})
    if start:
        _record(start, folder, log)
    images = ParquetImages(check_split(settings.prepared / dataset.digest, dataset, "train"))
    evaluate = epoch_evaluator(reference_of(dataset, "evaluator")) if run.configuration.recipe.evaluate_every else None
    speeds = []
    with ProgressDisplay() as display, system_metrics(store, run.run_id):

        def on_progress(progress: "Progress") -> None:
            run.lease.check()
            display.show(progress)

        for report in epoch_reports(run.configuration, images, start, device, evaluate, on_progress):
            folder.save(report.checkpoint)
            _record(report.checkpoint, folder, log)
            display.finish_epoch(report.record)
            speeds.append(report.record.metrics["images_per_second"])
    return _finish(final_state(run), folder, log, speeds, start.epoch if start else 0)


def exactness(kind: "DeviceKind", start: "Checkpoint | None") -> dict[str, str]:
    """Return the tag that says whether the bits can be had again; who goes on exactly keeps the tag that is there."""
    reasons = start.warn_if_inexact() if start else []
    if kind == "gpu":
        return {EXACT: "not promised: operations of GPUs may sum in another order each time"}
    if start and reasons:
        return {EXACT: f"not promised: went on from epoch {start.epoch} although {'; '.join(reasons)}"}
    return {} if start else {EXACT: "yes"}


def _record(checkpoint: "Checkpoint", folder: RunFolder, log: "EpochLog") -> None:
    """Bring the kept checkpoints and MLflow up to date, as far as MLflow answers.

    Any part may be done already, so a resumed training begins with this.
    """
    recipe = checkpoint.description.configuration.recipe
    if checkpoint.epoch % recipe.checkpoint_every == 0 or checkpoint.epoch == recipe.epochs:
        folder.keep(checkpoint.epoch)
    try:
        _deliver(checkpoint, folder, log)
    except TrackingError as error:
        logger.warning("%s Training goes on; what MLflow misses is kept and delivered later.", error)


def _deliver(checkpoint: "Checkpoint", folder: RunFolder, log: "EpochLog") -> None:
    log.deliver(checkpoint)
    for kept in folder.kept():
        log.upload_checkpoint(kept)
        shutil.rmtree(kept)


def _finish(
    checkpoint: "Checkpoint", folder: RunFolder, log: "EpochLog", speeds: list[float], resumed_from: int
) -> Trained:
    """Deliver what MLflow still misses, which may now fail, and sum the training up."""
    try:
        _deliver(checkpoint, folder, log)
        log.record_best(checkpoint)
    except TrackingError as error:
        raise TrackingError(
            f"{str(error).rstrip('.')}; the training is done and kept in {folder.path}, "
            "and the same again delivers what MLflow misses without training."
        ) from error
    last = checkpoint.description.records[-1]
    return Trained(
        epochs=last.epoch,
        steps=last.step,
        metrics=last.metrics,
        weights_sha256=checkpoint.weights_sha256(),
        images_per_second=statistics.median(speeds or [last.metrics["images_per_second"]]),
        resumed_from_epoch=resumed_from,
    )
