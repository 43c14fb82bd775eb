"""A training as one thing from its beginning to its end: its MLflow run, its folder, its lease, and how it ended."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.exceptions import Abort
from pydantic import BaseModel, ConfigDict, Field

from dcgan.dataset import Manifest
from dcgan.errors import DcganError, LeaseLostError, TrackingError
from dcgan.files import TEMPORARY_PREFIX
from dcgan.provenance import Configuration
from tasks.claim import claimed_run
from tasks.flow_run import flow_run_tags
from tasks.settings import read_settings

if TYPE_CHECKING:
    from tasks.tracking.lease import Lease
    from tasks.tracking.store import Store

logger = logging.getLogger("dcgan.run")


class Run(BaseModel):
    """The training that this process holds, as long as its `lease` says so."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    url: str | None
    folder: Path
    configuration: Configuration
    resumed: bool
    lease: Any = Field(exclude=True, repr=False)  # a Lease, whose module costs MLflow's import


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
        LeaseLostError: another process has taken the run over.
        Abort: another process has taken it over for this same flow run, whose state is that process's to tell.
    """
    from tasks.tracking import runs
    from tasks.tracking.store import Store

    store = Store(read_settings())
    with ExitStack() as stack:
        stack.enter_context(_left_to_a_successor())
        claim = stack.enter_context(claimed_run(store, configuration, dataset, resume))
        run_id, folder = claim.lease.run_id, read_settings().runs / claim.lease.run_id
        stack.enter_context(_temporary_files_in(folder))
        stack.enter_context(_recorded_ending(store, claim.lease))
        if claim.resumed:
            logger.info("Going on with the MLflow run %s.", run_id)
            runs.reopen_run(store, run_id, flow_run_tags())
        runs.describe_run(store, run_id, configuration, dataset)
        yield Run(
            run_id=run_id,
            url=store.run_url(run_id),
            folder=folder,
            configuration=configuration,
            resumed=claim.resumed,
            lease=claim.lease,
        )


@contextmanager
def _left_to_a_successor() -> Iterator[None]:
    """Leave the flow run's state alone when another process goes on with the same flow run.

    Whatever a flow raises would become its flow run's state, and so end the successor's in Prefect; Abort does not.
    """
    try:
        yield
    except LeaseLostError as loss:
        logger.error("%s", loss)
        if loss.same_flow_run:
            raise Abort(str(loss)) from loss
        raise


@contextmanager
def _recorded_ending(store: "Store", lease: "Lease") -> Iterator[None]:
    """Tell MLflow how the body ended; what is raised is the body's own failure, also when MLflow does not answer.

    Raises:
        LeaseLostError: another process has taken the run over; whatever the body raised may come from that.
    """
    from tasks.tracking import runs

    try:
        yield
        lease.require()
    except LeaseLostError:
        raise
    except BaseException as error:  # Ctrl-C, SIGTERM and a cancellation are no Exceptions
        outcome: runs.Outcome = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            lease.require()
            runs.end_run(store, lease.run_id, outcome, str(error) if isinstance(error, DcganError) else "")
        except TrackingError as failure:
            logger.warning("The run %s is not marked %s: %s", lease.run_id, outcome, failure)
        raise
    runs.end_run(store, lease.run_id, "FINISHED")


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
