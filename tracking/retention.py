"""What MLflow keeps for finished runs: their newest and best checkpoints, and the datasets that something refers to."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlflow.entities import LifecycleStage, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from dcgan.errors import TrackingError, mask_credentials
from dcgan.training.checkpoint import ARRAYS_FILE, DIGESTS_FILE, METADATA_FILE
from dcgan.training.run_folder import surplus_epochs
from tracking.lease import Lease, live_holder
from tracking.metrics import recorded_best_epoch
from tracking.runs import FINISHED, every_run, get_run
from tracking.store import Store, translated_errors
from tracking.tags import CHECKPOINTS, DATASET_DIGEST, MODEL_NAME

CHECKPOINT_NAME = re.compile(r"epoch-\d{6}")  # what else somebody put beside them stays


@dataclass(frozen=True)
class RecordedRun:
    """What decides about the traces of a run.

    Attributes:
        run_id: Its id.
        deleted: Whether it was deleted in MLflow, which keeps it until `mlflow gc`.
        over: Whether nobody can resume it: it is finished or deleted.
        in_use: Whether a live process holds its lease.
        ended_at: When it ended, or else when it began, in Unix seconds.
        best_epoch: Its best epoch, None where no epoch was evaluated.
        dataset_digest: Digest of the dataset that it is trained on; None for the run of a sweep.
    """

    run_id: str
    deleted: bool
    over: bool
    in_use: bool
    ended_at: float
    best_epoch: int | None
    dataset_digest: str | None


def recorded_runs(store: Store) -> Iterator[RecordedRun]:
    """Yield all runs, those that were deleted too."""
    return map(_recorded, every_run(store))


def recorded_run(store: Store, run_id: str) -> RecordedRun:
    """Return a run as it is now."""
    return _recorded(get_run(store, run_id))


@dataclass(frozen=True)
class UploadedCheckpoint:
    """A checkpoint among the artifacts of a run.

    Attributes:
        path: Its artifact path.
        size: Size of its files, in bytes.
        complete: Whether all of its files are there.
    """

    path: str
    size: int
    complete: bool

    @property
    def name(self) -> str:
        """The name of its folder, by which checkpoints are ordered."""
        return PurePosixPath(self.path).name


def uploaded_checkpoints(store: Store, run_id: str) -> list[UploadedCheckpoint]:
    """Return the checkpoints of a run, oldest first."""
    with translated_errors(store.uri):
        paths = sorted(file.path for file in store.client.list_artifacts(run_id, CHECKPOINTS) if file.is_dir)
        found = (
            _uploaded(store, run_id, path) for path in paths if CHECKPOINT_NAME.fullmatch(PurePosixPath(path).name)
        )
        # an object store may list a folder for minutes after its last file was removed
        return [checkpoint for checkpoint in found if checkpoint.size]


def surplus_checkpoints(
    uploaded: Iterable[UploadedCheckpoint], newest: int, best: int | None
) -> list[UploadedCheckpoint]:
    """Return the checkpoints that a finished run does not keep, oldest first.

    It keeps the newest and the one of its best epoch. What was half removed counts as none, and where nothing is
    complete, nothing is surplus.

    Args:
        uploaded: Its checkpoints.
        newest: How many of the newest it keeps, at least 1.
        best: Its best epoch, None where no epoch was evaluated.
    """
    by_name = {checkpoint.name: checkpoint for checkpoint in uploaded}
    complete = [name for name, checkpoint in by_name.items() if checkpoint.complete]
    if not complete:
        return []
    kept = set(complete).difference(surplus_epochs(complete, newest, best))
    return [checkpoint for name, checkpoint in sorted(by_name.items()) if name not in kept]


def remove_checkpoints(store: Store, lease: Lease, surplus: Iterable[UploadedCheckpoint]) -> None:
    """Remove checkpoints from the artifacts of a run, one after the other.

    Raises:
        LeaseLostError: Another process has taken over the run.
        TrackingError: The store failed, or does not remove artifacts.
    """
    removed = set()
    for checkpoint in surplus:
        uri = lease.require().info.artifact_uri
        with translated_errors(store.uri):
            get_artifact_repository(uri, store.uri, store.uri).delete_artifacts(checkpoint.path)
        removed.add(checkpoint.path)
    # a kind of store that cannot remove artifacts does nothing, and says nothing
    if removed.intersection(checkpoint.path for checkpoint in uploaded_checkpoints(store, lease.run_id)):
        raise TrackingError(
            f"The MLflow store {mask_credentials(store.uri)} does not remove artifacts: "
            f"the checkpoints of the run {lease.run_id} that it need not keep are still there."
        )


def referenced_datasets(store: Store, runs: Iterable[RecordedRun]) -> set[str]:
    """Return the digests of the datasets of all registered versions, and of all runs that were not deleted."""
    by_id = {run.run_id: run for run in runs}
    found = {run.dataset_digest for run in by_id.values() if not run.deleted}
    page: str | None = None
    while page != "":
        with translated_errors(store.uri):
            versions = store.client.search_model_versions(f"name = '{MODEL_NAME}'", page_token=page)
        for version in versions:
            found.add(version.tags.get(DATASET_DIGEST))
            if run := by_id.get(version.run_id):
                found.add(run.dataset_digest)
        page = versions.token or ""
    return {digest for digest in found if digest}


def _recorded(run: Run) -> RecordedRun:
    info = run.info
    deleted = info.lifecycle_stage == LifecycleStage.DELETED
    return RecordedRun(
        run_id=info.run_id,
        deleted=deleted,
        over=deleted or info.status == FINISHED,
        in_use=live_holder(run) is not None,
        ended_at=(info.end_time or info.start_time) / 1000,
        best_epoch=recorded_best_epoch(run),
        dataset_digest=run.data.tags.get(DATASET_DIGEST),
    )


def _uploaded(store: Store, run_id: str, path: str) -> UploadedCheckpoint:
    files = {PurePosixPath(file.path).name: file.file_size or 0 for file in store.client.list_artifacts(run_id, path)}
    return UploadedCheckpoint(path, sum(files.values()), {ARRAYS_FILE, METADATA_FILE, DIGESTS_FILE} <= files.keys())
