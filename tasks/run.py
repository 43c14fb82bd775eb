"""A training as one thing from its beginning to its end: its MLflow run, its folder, its lock, and how it ended."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from dcgan.dataset import Manifest
from dcgan.errors import ConfigurationError, DcganError, TrackingError
from dcgan.files import TEMPORARY_PREFIX, alone_in
from dcgan.provenance import Configuration
from dcgan.run_folder import RunFolder
from tasks.settings import read_settings

if TYPE_CHECKING:
    from tasks.tracking.store import Store

logger = logging.getLogger("dcgan.run")

MAX_STARTS = 4  # the first, and three after crashes


class Run(BaseModel):
    """The training that this process holds."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    url: str | None
    folder: Path
    configuration: Configuration
    resumed: bool


@contextmanager
def training_run(configuration: Configuration, dataset: Manifest, resume: str) -> Iterator[Run]:
    """Hold a run, new or resumed, while the body trains; on leaving, MLflow knows how it ended.

    Args:
        configuration: what is trained.
        dataset: on what.
        resume: `auto` goes on with the newest unfinished run of the same configuration, data and code that no live
            process holds, else begins one; `never` begins one; a run's id goes on with that one.

    Raises:
        TrackingError: the store does not answer, or the run to resume is not there or is finished.
        ConfigurationError: the run to resume is held by another process.
    """
    from tasks.tracking import runs
    from tasks.tracking.store import Store

    store = Store(read_settings())
    folders = read_settings().runs
    folders.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with alone_in(folders):  # else another process could claim the run that this one is just beginning
            resumed = _claim(store, configuration, resume, stack)
            run_id = resumed or runs.begin_run(store, configuration, dataset, flow_run_tags())
            if not resumed:
                stack.enter_context(RunFolder(folders / run_id).held())
        stack.enter_context(_temporary_files_in(folders / run_id))
        stack.enter_context(_recorded_ending(store, run_id))
        if resumed:
            logger.info("Going on with the unfinished MLflow run %s.", run_id)
            runs.reopen_run(store, run_id, flow_run_tags())
        runs.describe_run(store, run_id, configuration, dataset)
        yield Run(
            run_id=run_id,
            url=store.run_url(run_id),
            folder=folders / run_id,
            configuration=configuration,
            resumed=resumed is not None,
        )


def _claim(store: "Store", configuration: Configuration, resume: str, stack: ExitStack) -> str | None:
    """Take the lock of the run to go on with, and return its id; None when a new one is to begin."""
    from tasks.tracking import runs

    folders = read_settings().runs
    if resume == "never":
        return None
    if resume != "auto":
        runs.require_resumable(store, resume, configuration)
        stack.enter_context(RunFolder(folders / resume).held())
        runs.require_resumable(store, resume, configuration)  # whoever held it until now may have finished it
        return resume
    for run_id in runs.find_unfinished(store, configuration):
        with suppress(ConfigurationError), ExitStack() as attempt:  # another process may be training it
            attempt.enter_context(RunFolder(folders / run_id).held())
            if runs.is_unfinished(store, run_id):
                stack.enter_context(attempt.pop_all())
                return run_id
    return None


@contextmanager
def _recorded_ending(store: "Store", run_id: str) -> Iterator[None]:
    """Tell MLflow how the body ended; what is raised is the body's own failure, also when MLflow does not answer."""
    from tasks.tracking import runs

    try:
        yield
    except BaseException as error:  # Ctrl-C, SIGTERM and a cancellation are no Exceptions
        outcome: runs.Outcome = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            runs.end_run(store, run_id, outcome, str(error) if isinstance(error, DcganError) else "")
        except TrackingError as failure:
            logger.warning("The run %s is not marked %s: %s", run_id, outcome, failure)
        raise
    runs.end_run(store, run_id, "FINISHED")


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have every temporary file of this process made in a run's folder.

    A process that is killed leaves them, TensorFlow's and MLflow's too; whoever holds the run next sweeps them away.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder, ignore_cleanup_errors=True) as temporary:
        tempfile.tempdir = temporary
        try:
            yield
        finally:
            tempfile.tempdir = before


def require_starts_left() -> None:
    """Refuse a flow run that crashed as often as it was started: automations would start it again for ever.

    Raises:
        ConfigurationError: it has been started more than four times.
    """
    from prefect.runtime import flow_run

    if (starts := flow_run.run_count or 0) > MAX_STARTS:
        raise ConfigurationError(
            f"The flow run {flow_run.name} crashed {starts - 1} times; expected at most {MAX_STARTS - 1} crashes: "
            "look into its logs, then start a new flow run, which goes on from the last epoch."
        )


def flow_run_tags() -> dict[str, str]:
    """Return the tags that link an MLflow run to the Prefect flow run that this code runs in."""
    from prefect.runtime import flow_run

    tags = {"prefect.flow_run_id": flow_run.id, "prefect.flow_run_url": flow_run.ui_url}
    return {name: value for name, value in tags.items() if value}


def choose_seed(seed: int | None) -> int:
    """Return the seed, or one that belongs to the flow run: its retries are the same training."""
    from prefect.runtime import flow_run

    return seed if seed is not None else UUID(str(flow_run.id)).int % 2**31
