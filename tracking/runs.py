"""A training run as an MLflow run: created or found, described, and ended."""

import getpass
import json
import logging
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, SourceType, ViewType
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from dcgan.data.dataset import Manifest, SplitManifest
from dcgan.errors import TrackingError, UnavailableError
from dcgan.files import first_line
from dcgan.provenance import LIBRARY, Configuration, code_digest, environment
from tracking import tags
from tracking.create import create_once
from tracking.store import Store, tolerated_absence, translated_errors

logger = logging.getLogger("dcgan.tracking")

FINISHED = "FINISHED"
FAILURE_NOTE = "**Failed:** "  # tells a failure's note from one that a user wrote
DIGEST_LENGTH = 36  # MLflow's limit for a dataset's digest
# as columns, of which MLflow's pages show a table, unlike of tensors
DATASET_SCHEMA = Schema(
    [ColSpec(Array(Array(Array(DataType.float))), "image"), ColSpec(DataType.integer, "label")],
)
TRAIN_DATASET, TEST_DATASET = "digits-train", "digits-test"

Outcome = Literal["FINISHED", "FAILED", "KILLED"]


def find_unfinished(store: Store, configuration: Configuration) -> Iterator[str]:
    """Yield the ids of the unfinished runs of this configuration, data and code, newest first."""
    fingerprint = f"tags.`{tags.FINGERPRINT}` = '{configuration.fingerprint()}'"
    unfinished = f"{fingerprint} and attributes.status != '{FINISHED}'"
    yield from (run.info.run_id for run in _search(store, unfinished, ViewType.ACTIVE_ONLY))


def find_finished(store: Store, configuration: Configuration) -> str | None:
    """Return the id of the newest finished run of this configuration, data and code, None where there is none."""
    fingerprint = f"tags.`{tags.FINGERPRINT}` = '{configuration.fingerprint()}'"
    finished = _search(store, f"{fingerprint} and attributes.status = '{FINISHED}'", ViewType.ACTIVE_ONLY)
    return next((run.info.run_id for run in finished), None)


def every_run(store: Store) -> Iterator[Run]:
    """Yield all runs, newest first, those that were deleted in MLflow too."""
    yield from _search(store, "", ViewType.ALL)


def find_run_of(store: Store, flow_run_id: str) -> str | None:
    """Return the id of the newest run of a Prefect flow run, None where it has none."""
    with translated_errors(store.uri):
        found = store.client.search_runs(
            [store.experiment_id],
            filter_string=f"tags.`{tags.FLOW_RUN_ID}` = '{flow_run_id}'",
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
    return str(found[0].info.run_id) if found else None


def is_unfinished(store: Store, run_id: str) -> bool:
    """Return whether a run can be resumed."""
    return bool(get_run(store, run_id).info.status != FINISHED)


def create_run(store: Store, configuration: Configuration, dataset: Manifest, more_tags: Mapping[str, str]) -> str:
    """Create one run, with the tags by which it is found again, and return its id.

    Args:
        store: The store.
        configuration: Gives the run's name and fingerprint.
        dataset: Gives the dataset digest.
        more_tags: Further tags.
    """
    recipe = configuration.recipe
    all_tags = {
        tags.FINGERPRINT: configuration.fingerprint(),
        tags.RECIPE: recipe.name,
        tags.SEED: str(configuration.seed),
        tags.DATASET_DIGEST: dataset.digest,
        tags.CODE_DIGEST: code_digest(),
        tags.HOST: platform.node(),
        **{f"dcgan.{name}": value for name, value in environment().items()},
        **origin(),
        **more_tags,
    }
    trial = f"-trial{more_tags[tags.TRIAL]}" if tags.TRIAL in more_tags else ""
    name = f"{recipe.name}-seed{configuration.seed}{trial}"
    client, experiment = store.client, store.experiment_id
    with translated_errors(store.uri):
        return create_once(
            lambda token: str(client.create_run(experiment, tags=all_tags | token, run_name=name).info.run_id),
            lambda matching: [run.info.run_id for run in client.search_runs([experiment], matching)],
            client.delete_run,
        )


def origin() -> dict[str, str]:
    """Return the tags by which MLflow's pages show who made a run, and of what code."""
    found = {
        MLFLOW_USER: _user(),
        MLFLOW_SOURCE_NAME: "dcgan",
        MLFLOW_SOURCE_TYPE: SourceType.to_string(SourceType.LOCAL),
        MLFLOW_GIT_COMMIT: get_git_commit(str(LIBRARY)),
    }
    return {name: value for name, value in found.items() if value}


def _user() -> str | None:
    with suppress(KeyError, OSError):  # a container may run for a user that it has no name for
        return getpass.getuser()
    return None


def describe_run(store: Store, run_id: str, configuration: Configuration, dataset: Manifest) -> None:
    """Log a run's parameters and dataset; those that are there already, from before a crash, stay as they are."""
    with translated_errors(store.uri):
        store.client.log_batch(run_id, params=[Param(name, value) for name, value in _params(configuration).items()])
        store.client.log_inputs(
            run_id,
            datasets=[
                _dataset_input(dataset, dataset.train, TRAIN_DATASET, "training"),
                _dataset_input(dataset, dataset.test, TEST_DATASET, "evaluation"),
            ],
        )


def require_resumable(store: Store, run_id: str, configurations: Sequence[Configuration]) -> Configuration:
    """Check that a run exists, is unfinished, and is of one of these configurations, and return which.

    Raises:
        TrackingError: It is not.
    """
    if not is_unfinished(store, run_id):
        raise TrackingError(f"The run {run_id} is finished; expected an unfinished one to resume.")
    return require_configuration(store, run_id, configurations)


def require_configuration(store: Store, run_id: str, configurations: Sequence[Configuration]) -> Configuration:
    """Check that a run exists and is of one of these configurations, and return which.

    Raises:
        TrackingError: It is not.
    """
    run = get_run(store, run_id)
    fingerprint = run.data.tags.get(tags.FINGERPRINT)
    differences = {
        configuration: _differences(run, configuration)
        for configuration in sorted(configurations, key=lambda each: each.fingerprint() != fingerprint)
    }
    closest = min(differences, key=lambda each: len(differences[each]))
    if differing := differences[closest]:
        raise TrackingError(f"The run {run_id} is of another configuration: {', '.join(differing)}.")
    return closest


def _differences(run: Run, configuration: Configuration) -> list[str]:
    here = {**_params(configuration), tags.DATASET_DIGEST: configuration.dataset_digest}
    # a process that was killed right after creating the run has logged no parameters
    there = {**(run.data.params or here), tags.DATASET_DIGEST: run.data.tags.get(tags.DATASET_DIGEST)}
    return [f"{name} ({there.get(name)}, here {here[name]})" for name in here if there.get(name) != here[name]]


def reopen_run(store: Store, run_id: str, new_tags: Mapping[str, str]) -> None:
    """Make an unfinished run RUNNING again, without the note of its failure."""
    note = get_run(store, run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
    with translated_errors(store.uri):
        store.client.update_run(run_id, status="RUNNING")
        if note.startswith(FAILURE_NOTE):
            with tolerated_absence():
                store.client.delete_tag(run_id, MLFLOW_RUN_NOTE)
    tag_run(store, run_id, new_tags)


def end_run(store: Store, run_id: str, outcome: Outcome, note: str = "") -> None:
    """Record how a run ended, with the sentence of its failure as its description, unless a user has written one."""
    written = get_run(store, run_id).data.tags.get(MLFLOW_RUN_NOTE, "") if note else ""
    with translated_errors(store.uri):
        if note and (not written or written.startswith(FAILURE_NOTE)):
            store.client.set_tag(run_id, MLFLOW_RUN_NOTE, f"{FAILURE_NOTE}{note}")
        store.client.set_terminated(run_id, outcome)


def describe_sweep(store: Store, run_id: str) -> None:
    """Give a sweep's run a description for its page, its plot and a link to its table; a user's stays."""
    written = get_run(store, run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
    if not written or written.startswith(FAILURE_NOTE):
        plot, table = (artifact_link(run_id, f"{tags.SWEEP_REPORT}/{name}") for name in ("trials.png", "trials.csv"))
        tag_run(store, run_id, {MLFLOW_RUN_NOTE: f"![trials]({plot})\n\n[Table of the trials]({table})\n"})


def describe_result(store: Store, run_id: str, version: int, verdict: str, *, evaluated: bool) -> None:
    """Give a run a description for its page: the verdict, its sample grid, its version and report; a user's stays."""
    if get_run(store, run_id).data.tags.get(MLFLOW_RUN_NOTE):
        return
    name = f"{tags.MODEL_NAME}, version {version}"
    links = {name: store.version_url(version), **({"report": store.report_url(run_id)} if evaluated else {})}
    shown = " · ".join(f"[{text}]({url})" if url else text for text, url in links.items())
    grid = artifact_link(run_id, tags.SAMPLE_GRID)
    tag_run(store, run_id, {MLFLOW_RUN_NOTE: f"{verdict}\n\n![sample grid]({grid})\n\n{shown}\n"})


def get_run(store: Store, run_id: str) -> Run:
    """Return a run.

    Raises:
        TrackingError: No run has this id, or the store failed.
    """
    with translated_errors(store.uri):
        try:
            run = store.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise TrackingError(
                    f"There is no run {run_id} in the MLflow store; expected the id of a run."
                ) from None
            raise
    if run.info.run_id != run_id:
        raise TrackingError(f"Asked for the run {run_id}, the MLflow store answers with {run.info.run_id or 'none'}.")
    return run


def tag_run(store: Store, run_id: str, new_tags: Mapping[str, str]) -> None:
    """Set tags of a run."""
    with translated_errors(store.uri):
        for name, value in new_tags.items():
            store.client.set_tag(run_id, name, value)


def upload_folder(store: Store, run_id: str, folder: Path, artifact_path: str) -> None:
    """Upload the files of a folder as artifacts of a run; files of the same names are replaced."""
    with translated_errors(store.uri):
        store.client.log_artifacts(run_id, str(folder), artifact_path)


def upload_text(store: Store, run_id: str, text: str, artifact_path: str) -> None:
    """Upload a text as an artifact of a run; a file of the same name is replaced."""
    with translated_errors(store.uri):
        store.client.log_text(run_id, text, artifact_path)


def artifact_paths(store: Store, run_id: str, folder: str) -> set[str]:
    """Return the paths of the artifacts in a folder of a run."""
    with translated_errors(store.uri):
        return {str(file.path) for file in store.client.list_artifacts(run_id, folder)}


def artifact_link(run_id: str, artifact_path: str) -> str:
    """Return the address of an artifact for a text that MLflow's pages show."""
    return f"get-artifact?path={artifact_path.replace('/', '%2F')}&run_uuid={run_id}"


def with_relative_links(text: str) -> str:
    """Return a text whose links to artifacts lead to files in the folder of its own file."""
    return re.sub(r"get-artifact\?path=(?:[\w.-]+%2F)*([\w.-]+)&run_uuid=\w+", r"\1", text)


@contextmanager
def downloaded_checkpoints(store: Store, run_id: str, after: str) -> Iterator[Iterator[Path]]:
    """Yield the folders of a run's uploaded checkpoints, newest first, each downloaded when it is asked for.

    Args:
        store: The store.
        run_id: The run.
        after: Name of a checkpoint; only newer ones are yielded. An empty name yields all.

    Raises:
        UnavailableError: The store does not answer, also while a checkpoint is downloaded; a checkpoint that is damaged
            is skipped.
    """
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        listed = sorted(artifact_paths(store, run_id, tags.CHECKPOINTS), reverse=True)
        yield _downloads(store, run_id, [path for path in listed if Path(path).name > after], temporary)


@contextmanager
def system_metrics(store: Store, run_id: str) -> Iterator[None]:
    """Record the machine's load, memory, disk and network in the run while the body runs."""
    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _search(store: Store, matching: str, view: int) -> Iterator[Run]:
    page: str | None = None
    while page != "":
        with translated_errors(store.uri):
            found = store.client.search_runs(
                [store.experiment_id],
                filter_string=matching,
                run_view_type=view,
                order_by=["attributes.start_time DESC"],
                page_token=page,
            )
        yield from found
        page = found.token or ""


def _downloads(store: Store, run_id: str, paths: list[str], folder: str) -> Iterator[Path]:
    for path in paths:
        try:
            with translated_errors(store.uri):
                downloaded = Path(store.client.download_artifacts(run_id, path, folder))
        except UnavailableError:  # to skip a checkpoint would be to train again what it has
            raise
        except TrackingError as error:
            logger.warning("The checkpoint %s cannot be downloaded and is skipped: %s.", path, first_line(error))
            continue
        yield downloaded


def _params(configuration: Configuration) -> dict[str, str]:
    fields = {**configuration.recipe.model_dump(), "seed": configuration.seed}
    return {name: str(value) for name, value in fields.items()}


def _dataset_input(manifest: Manifest, split: SplitManifest, name: str, context: str) -> DatasetInput:
    dataset = Dataset(
        name=name,
        digest=manifest.digest[:DIGEST_LENGTH],
        source_type="url" if "://" in manifest.source else "local",
        source=json.dumps({"uri": manifest.source}),
        profile=json.dumps(
            {
                "num_rows": split.rows,
                "sha256": manifest.digest,
                "columns": manifest.columns,
                "range": manifest.value_range,
                "label_histogram": split.label_histogram,
            }
        ),
        schema=json.dumps({"mlflow_colspec": DATASET_SCHEMA.to_dict()}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
