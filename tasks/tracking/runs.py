"""One training as an MLflow run: begun or found again, described, and ended."""

import json
import logging
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE

from dcgan.dataset import Manifest
from dcgan.errors import TrackingError
from dcgan.provenance import Configuration, code_digest, environment
from tasks.flow_run import FLOW_RUN_ID
from tasks.settings import CHECKOUT
from tasks.tracking.store import Store, translated_errors

logger = logging.getLogger("dcgan.tracking")

FINGERPRINT = "dcgan.fingerprint"
RECORDED_EPOCHS = "dcgan.recorded_epochs"
DATASET_DIGEST = "dcgan.dataset_digest"
CHECKPOINTS = "checkpoints"
FINISHED = "FINISHED"
DIGEST_LENGTH = 36  # what MLflow keeps of a dataset's digest

Outcome = Literal["FINISHED", "FAILED", "KILLED"]


def find_unfinished(store: Store, configuration: Configuration) -> list[str]:
    """Return the ids of the unfinished runs of this configuration, data and code, newest first."""
    with translated_errors(store.uri):
        found = store.client.search_runs(
            [store.experiment_id],
            filter_string=f"tags.`{FINGERPRINT}` = '{configuration.fingerprint()}'",
            run_view_type=ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time DESC"],
        )
    return [run.info.run_id for run in found if run.info.status != FINISHED]


def find_run_of(store: Store, flow_run_id: str) -> str | None:
    """Return the id of the newest run of a Prefect flow run, None where it has none."""
    with translated_errors(store.uri):
        found = store.client.search_runs(
            [store.experiment_id],
            filter_string=f"tags.`{FLOW_RUN_ID}` = '{flow_run_id}'",
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
    return str(found[0].info.run_id) if found else None


def is_unfinished(store: Store, run_id: str) -> bool:
    """Return whether a run may be gone on with."""
    return bool(get_run(store, run_id).info.status != FINISHED)


def begin_run(store: Store, configuration: Configuration, dataset: Manifest, tags: Mapping[str, str]) -> str:
    """Create the run of a training, with the tags by which it is found again, in one step, and return its id.

    Args:
        store: where.
        configuration: becomes the run's name and fingerprint.
        dataset: becomes a tag, by its digest.
        tags: what else is to be known of it.
    """
    recipe = configuration.recipe
    all_tags = {
        FINGERPRINT: configuration.fingerprint(),
        "dcgan.recipe": recipe.name,
        "dcgan.seed": str(configuration.seed),
        DATASET_DIGEST: dataset.digest,
        "dcgan.code_digest": code_digest(),
        "dcgan.host": platform.node(),
        **{f"dcgan.{name}": value for name, value in environment().items()},
        **({MLFLOW_GIT_COMMIT: commit} if (commit := get_git_commit(str(CHECKOUT))) else {}),
        **tags,
    }
    with translated_errors(store.uri):
        run = store.client.create_run(
            store.experiment_id, tags=all_tags, run_name=f"{recipe.name}-seed{configuration.seed}"
        )
    return str(run.info.run_id)


def describe_run(store: Store, run_id: str, configuration: Configuration, dataset: Manifest) -> None:
    """Give a run its parameters and data set; what is there already, from before a crash, stays as it is."""
    with translated_errors(store.uri):
        store.client.log_batch(run_id, params=[Param(name, value) for name, value in _params(configuration).items()])
        store.client.log_inputs(run_id, datasets=[_dataset_input(dataset, "train"), _dataset_input(dataset, "test")])


def require_resumable(store: Store, run_id: str, configuration: Configuration) -> None:
    """Check that a run is there, unfinished, and of this configuration.

    Raises:
        TrackingError: it is not.
    """
    if not is_unfinished(store, run_id):
        raise TrackingError(f"The run {run_id} is finished; expected an unfinished one to resume.")
    require_same_training(store, run_id, configuration)


def require_same_training(store: Store, run_id: str, configuration: Configuration) -> None:
    """Check that a run is there, and of this configuration.

    Raises:
        TrackingError: it is not.
    """
    run = get_run(store, run_id)
    here = {**_params(configuration), DATASET_DIGEST: configuration.dataset_digest}
    # a process that was killed at once has left no parameters
    there = {**(run.data.params or here), DATASET_DIGEST: run.data.tags.get(DATASET_DIGEST)}
    if unlike := [f"{name} ({there.get(name)}, here {here[name]})" for name in here if there.get(name) != here[name]]:
        raise TrackingError(f"The run {run_id} is of another configuration: {', '.join(unlike)}.")


def reopen_run(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Make an unfinished run RUNNING again."""
    with translated_errors(store.uri):
        store.client.update_run(run_id, status="RUNNING")
    tag_run(store, run_id, tags)


def end_run(store: Store, run_id: str, outcome: Outcome, note: str = "") -> None:
    """Say how a run ended, with a sentence for its reader."""
    with translated_errors(store.uri):
        if note:
            store.client.set_tag(run_id, MLFLOW_RUN_NOTE, note)
        store.client.set_terminated(run_id, outcome)


def get_run(store: Store, run_id: str) -> Run:
    """Return a run.

    Raises:
        TrackingError: there is none with this id, or the store failed.
    """
    with translated_errors(store.uri):
        try:
            return store.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise TrackingError(
                    f"There is no run {run_id} in the MLflow store; expected the id of a run."
                ) from None
            raise


def tag_run(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run."""
    with translated_errors(store.uri):
        for name, value in tags.items():
            store.client.set_tag(run_id, name, value)


def upload_folder(store: Store, run_id: str, folder: Path, artifact_path: str) -> None:
    """Put the files of a folder under a run's artifacts; the same names are replaced."""
    with translated_errors(store.uri):
        store.client.log_artifacts(run_id, str(folder), artifact_path)


@contextmanager
def downloaded_checkpoints(store: Store, run_id: str) -> Iterator[list[Path]]:
    """Yield the folders of a run's uploaded checkpoints, newest first, fetched to a temporary place one by one."""
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary, translated_errors(store.uri):
        listed = sorted((file.path for file in store.client.list_artifacts(run_id, CHECKPOINTS)), reverse=True)
        yield [Path(store.client.download_artifacts(run_id, path, temporary)) for path in listed[:1]]


@contextmanager
def system_metrics(store: Store, run_id: str) -> Iterator[None]:
    """Record the machine's load, memory, disk and network in the run while the body runs."""
    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _params(configuration: Configuration) -> dict[str, str]:
    fields = {**configuration.recipe.model_dump(), "seed": configuration.seed}
    return {name: str(value) for name, value in fields.items()}


def _dataset_input(manifest: Manifest, split: Literal["train", "test"]) -> DatasetInput:
    rows = (manifest.train if split == "train" else manifest.test).rows
    dataset = Dataset(
        name=f"digits-{split}",
        digest=manifest.digest[:DIGEST_LENGTH],
        source_type="url" if "://" in manifest.source else "local",
        source=json.dumps({"uri": manifest.source}),
        profile=json.dumps({"num_rows": rows, "sha256": manifest.digest}),
        schema=json.dumps({"columns": manifest.columns, "range": manifest.value_range}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training" if split == "train" else "evaluation")])
