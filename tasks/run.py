"""A training as one thing from its beginning to its end: its MLflow run, its folder, its lock, and how it ended."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from dcgan.dataset import Manifest
from dcgan.errors import ConfigurationError, DcganError
from dcgan.provenance import Configuration
from dcgan.run_folder import RunFolder
from tasks.settings import read_settings

if TYPE_CHECKING:
    from tasks.tracking.store import Store

logger = logging.getLogger("dcgan.run")


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

    settings = read_settings()
    store = Store(settings)
    tags = flow_run_tags()
    with ExitStack() as stack:
        resumed = _claim(store, configuration, resume, stack)
        if resumed:
            runs.reopen_run(store, resumed, tags)
            run_id = resumed
            logger.info("Going on with the unfinished MLflow run %s.", run_id)
        else:
            run_id = runs.begin_run(store, configuration, dataset, tags)
            stack.enter_context(RunFolder(settings.runs / run_id).held())
        try:
            yield Run(
                run_id=run_id,
                url=store.run_url(run_id),
                folder=settings.runs / run_id,
                configuration=configuration,
                resumed=resumed is not None,
            )
        except DcganError as error:
            runs.end_run(store, run_id, "FAILED", str(error))
            raise
        except Exception:
            runs.end_run(store, run_id, "FAILED")
            raise
        except BaseException:  # Ctrl-C, SIGTERM, or a cancellation
            runs.end_run(store, run_id, "KILLED")
            raise
        runs.end_run(store, run_id, "FINISHED")


def flow_run_tags() -> dict[str, str]:
    """Return the tags that link an MLflow run to the Prefect flow run that this code runs in."""
    from prefect.runtime import flow_run

    tags = {"prefect.flow_run_id": flow_run.id, "prefect.flow_run_url": flow_run.ui_url}
    return {name: value for name, value in tags.items() if value}


def _claim(store: "Store", configuration: Configuration, resume: str, stack: ExitStack) -> str | None:
    """Take the lock of the run to go on with, and return its id; None when a new one is to begin."""
    from tasks.tracking import runs

    folder = read_settings().runs
    if resume == "never":
        return None
    if resume != "auto":
        runs.require_resumable(store, resume, configuration)
        stack.enter_context(RunFolder(folder / resume).held())
        return resume
    for run_id in runs.find_unfinished(store, configuration):
        try:
            stack.enter_context(RunFolder(folder / run_id).held())
        except ConfigurationError:
            continue  # another process is training it
        return run_id
    return None


def choose_seed(seed: int | None) -> int:
    """Return the seed, or one that belongs to the flow run: its retries are the same training."""
    from prefect.runtime import flow_run

    return seed if seed is not None else UUID(str(flow_run.id)).int % 2**31
