"""Training runs to compare: found by what a user calls them, and read with all that the comparison shows."""

import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlflow.entities import Run, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from dcgan.errors import ModelError, TrackingError
from dcgan.report.comparison import CURVES, ComparedRun, SampleGrid
from tracking.epochs import GRID_NAME
from tracking.evaluations import SHOWN_DIGITS, evaluation_of_run
from tracking.metrics import recorded_curves
from tracking.registry import find_version, resolve
from tracking.runs import artifact_paths, get_run
from tracking.store import Store, translated_errors
from tracking.tags import CODE_DIGEST, DATASET_DIGEST, DEVICE, IMAGES, RECORDED_EPOCHS

RUN_ID = "[0-9a-f]{32}"
VERSION_NAME = "[0-9]{1,9}|[A-Za-z][A-Za-z0-9_-]*"  # a number or an alias
MAX_LISTED = 10  # runs of one name that an error lists
EXPECTED = "the id or the name of a run, or the number or an alias of a registered version"


def find_run(store: Store, text: str) -> str:
    """Return the id of the run that has this id or name, or that registered the version with this number or alias.

    Raises:
        TrackingError: There is no such run, there are several, or the store failed.
    """
    if re.fullmatch(RUN_ID, text):
        return str(get_run(store, text).info.run_id)
    found = list(dict.fromkeys([*_runs_named(store, text), *_run_of_version(store, text)]))
    if not found:
        raise TrackingError(f"There is no run {text} in the MLflow store; expected {EXPECTED}.")
    if len(found) > 1:
        more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        listed = "; ".join(_identified(get_run(store, run_id)) for run_id in found[:MAX_LISTED])
        raise TrackingError(f"{len(found)} runs are called {text}: {listed}{more}; expected the id of one of them.")
    return found[0]


def read_run(store: Store, run_id: str) -> ComparedRun:
    """Return what a comparison shows of a run; one that is unfinished or was not evaluated has less.

    Raises:
        TrackingError: There is no such run, or the store failed.
    """
    run = get_run(store, run_id)
    digests = {"dataset digest": DATASET_DIGEST, "code digest": CODE_DIGEST}
    return ComparedRun(
        run_id=run_id,
        name=run.info.run_name or run_id,
        url=store.run_url(run_id),
        facts=_facts(store, run),
        parameters=dict(sorted(run.data.params.items())),
        digests={name: run.data.tags[tag][:SHOWN_DIGITS] for name, tag in digests.items() if tag in run.data.tags},
        curves=recorded_curves(store, run_id, run.data.metrics, CURVES),
        evaluation=evaluation_of_run(store, run_id),
        grid=_last_grid(store, run_id),
    )


def _runs_named(store: Store, name: str) -> Iterator[str]:
    """Yield the ids of the runs with a name, newest first."""
    quote = '"' if "'" in name else "'"
    if quote in name:  # MLflow's filters have no way to write both quotes in one text
        return
    with translated_errors(store.uri):
        found = store.client.search_runs(
            [store.experiment_id],
            filter_string=f"attributes.run_name = {quote}{name}{quote}",
            run_view_type=ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time DESC"],
        )
    yield from (str(run.info.run_id) for run in found)


def _run_of_version(store: Store, name: str) -> Iterator[str]:
    """Yield the id of the run that registered the version with a number or alias, if there is one."""
    if not re.fullmatch(VERSION_NAME, name):
        return
    try:
        version = resolve(store, name)
    except ModelError:
        return
    if version.run_id:
        yield version.run_id


def _identified(run: Run) -> str:
    """Return what tells a run from others of its name."""
    return f"{run.info.run_id}, {run.info.status.lower()}, started {_started(run)}"


def _started(run: Run) -> str:
    return f"{datetime.fromtimestamp(run.info.start_time / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _facts(store: Store, run: Run) -> dict[str, str]:
    """Return what happened in a run, by name."""
    tags, info = run.data.tags, run.info
    known = {
        "Status": info.status.lower(),
        "Epochs": " of ".join(filter(None, [tags.get(RECORDED_EPOCHS, "0"), run.data.params.get("epochs")])),
        "Version": str(find_version(store, info.run_id) or "none"),
        "Device": tags.get(DEVICE),
        "Code commit": tags.get(MLFLOW_GIT_COMMIT, "")[:SHOWN_DIGITS],
        "Started": _started(run),
        "Duration": str(timedelta(seconds=round((info.end_time - info.start_time) / 1000))) if info.end_time else None,
    }
    return {name: value for name, value in known.items() if value}


def _last_grid(store: Store, run_id: str) -> SampleGrid | None:
    """Return the sample grid of a run's last epoch that has one."""
    paths = artifact_paths(store, run_id, IMAGES)
    grids = {int(match[1]): path for path in paths if path.endswith(".png") and (match := GRID_NAME.search(path))}
    if not grids:
        return None
    epoch = max(grids)
    with translated_errors(store.uri), tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        return SampleGrid(epoch, Path(store.client.download_artifacts(run_id, grids[epoch], temporary)).read_bytes())
