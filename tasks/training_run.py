"""A training run from its beginning to its end: created or resumed, locked, described, and finished in MLflow."""

import logging
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prefect.exceptions import Abort

from dcgan.data.dataset import Manifest
from dcgan.errors import ConfigurationError, DcganError, LeaseLostError, TrackingError
from dcgan.files import LOCK_NAME, TEMPORARY_PREFIX, exclusive_lock
from dcgan.provenance import Configuration
from dcgan.training.checkpoint import Checkpoint, newest_checkpoint
from dcgan.training.run_folder import RunFolder, epoch_name
from tasks.context import Context
from tasks.flow_run import flow_run_id, flow_run_tags
from tasks.retries import repeated
from tracking import runs
from tracking.epochs import recorded_epochs
from tracking.lease import Holder, Lease, is_held_elsewhere, require_not_held_elsewhere
from tracking.metrics import recorded_best_epoch
from tracking.retention import remove_checkpoints, surplus_checkpoints, uploaded_checkpoints
from tracking.store import Store

logger = logging.getLogger("dcgan.run")

# how long to wait for a predecessor on this machine, which stops when it next looks, at the latest after an evaluation
PREDECESSOR_SECONDS = 300.0


@dataclass(frozen=True)
class TrainingRun:
    """The training run of this process, as long as its lease is valid.

    Attributes:
        run_id: Id of the MLflow run.
        url: Address of its page in MLflow, None where the store has no server.
        folder: Its folder on this machine.
        configuration: What is trained.
        resumed: Whether the run existed before.
        lease: This process's lease on it.
    """

    run_id: str
    url: str | None
    folder: Path
    configuration: Configuration
    resumed: bool
    lease: Lease

    def newest_state(self, store: Store) -> Checkpoint | None:
        """Return the newest usable state, of this machine or of MLflow; None before the first epoch's end.

        MLflow is searched only where this machine lacks the last epoch that was recorded: another machine has trained
        since, or the states here are damaged.

        Raises:
            CheckpointError: A state belongs to another configuration.
            TrackingError: MLflow does not answer.
            LeaseLostError: Another process has taken over the run.
        """
        folder = RunFolder(self.folder)
        here = newest_checkpoint(folder.states(), self.configuration)
        if here and here.epoch >= recorded_epochs(self.lease.require()):
            return here
        with runs.downloaded_checkpoints(store, self.run_id, epoch_name(here.epoch) if here else "") as downloaded:
            newer = newest_checkpoint(downloaded, self.configuration)
        if newer:
            logger.info("The state after epoch %d was downloaded from MLflow.", newer.epoch)
            folder.save(newer)
        return newer or here


@contextmanager
def training_run(
    context: Context,
    configuration: Configuration,
    dataset: Manifest,
    resume: str,
    others: Sequence[Configuration] = (),
) -> Iterator[TrainingRun]:
    """Own a run, new or resumed, while the body trains; afterwards MLflow knows how it ended.

    Args:
        context: Settings and store.
        configuration: What a new run trains.
        dataset: The dataset's manifest.
        resume: `auto` resumes the newest unfinished run of the same configuration, data and code that no live process
            uses, else creates one; `never` creates one; a run's id resumes that one.
        others: What else a run may train that is resumed, because another machine has begun it.

    Raises:
        TrackingError: The store does not answer, or the run to resume does not exist or is finished.
        ConfigurationError: The run to resume is in use by another process.
        LeaseLostError: Another process has taken over the run.
        Abort: Another process has taken it over for this same flow run, and reports its state to Prefect.
    """
    store = context.store
    with ExitStack() as stack:
        stack.enter_context(_abort_for_a_successor())
        claim = stack.enter_context(_claimed_run(context, [configuration, *others], dataset, resume))
        run_id, folder = claim.lease.run_id, context.settings.runs / claim.lease.run_id
        stack.enter_context(_temporary_files_in(folder))
        stack.enter_context(_recorded_outcome(store, claim.lease))
        if claim.resumed:
            logger.info("Resuming the MLflow run %s.", run_id)
            runs.reopen_run(store, run_id, flow_run_tags())
        runs.describe_run(store, run_id, claim.configuration, dataset)
        yield TrainingRun(
            run_id=run_id,
            url=store.run_url(run_id),
            folder=folder,
            configuration=claim.configuration,
            resumed=claim.resumed,
            lease=claim.lease,
        )
        _remove_surplus(context, claim.lease)


@dataclass(frozen=True)
class _Claim:
    """The lease on a run, what the run trains, and whether it existed before."""

    lease: Lease
    configuration: Configuration
    resumed: bool


@contextmanager
def _claimed_run(
    context: Context, configurations: Sequence[Configuration], dataset: Manifest, resume: str
) -> Iterator[_Claim]:
    """Own a run while the body runs: by its folder's lock on this machine, by its lease elsewhere.

    A flow run that Prefect started again takes its own MLflow run, whoever uses it and whatever `resume` says: Prefect
    has found that its predecessor is dead.
    """
    settings = context.settings
    here = Holder(host=platform.node(), folder=str(settings.root), flow_run_id=flow_run_id())
    with ExitStack() as stack:
        claim = _take_over(context, configurations, here, stack)
        if claim is None:
            # else another process could claim the run that this one is just creating
            with exclusive_lock(settings.runs / LOCK_NAME):
                claim = _resume(context, configurations, resume, here, stack) or _create(
                    context, configurations[0], dataset, here, stack
                )
            stack.enter_context(claim.lease.renewed())
        yield claim


def _take_over(
    context: Context, configurations: Sequence[Configuration], here: Holder, stack: ExitStack
) -> _Claim | None:
    """Take the run that this flow run created when it was started before, from its predecessor if that still lives."""
    store = context.store
    run_id = runs.find_run_of(store, here.flow_run_id) if here.flow_run_id else None
    if run_id is None:
        return None
    configuration = runs.require_configuration(store, run_id, configurations)
    claim = _take(store, run_id, configuration, here)
    stack.enter_context(claim.lease.renewed())
    stack.enter_context(RunFolder(context.settings.runs / run_id).lock(PREDECESSOR_SECONDS))
    claim.lease.require()
    return claim


def _resume(
    context: Context, configurations: Sequence[Configuration], resume: str, here: Holder, stack: ExitStack
) -> _Claim | None:
    """Take the run to resume; None when a new one is to be created."""
    store = context.store
    if resume == "never":
        return None
    if resume != "auto":
        return _resume_requested(context, configurations, resume, here, stack)
    unfinished = ((run_id, each) for each in configurations for run_id in runs.find_unfinished(store, each))
    for run_id, configuration in unfinished:
        if is_held_elsewhere(runs.get_run(store, run_id), here):
            continue
        with suppress(ConfigurationError), ExitStack() as attempt:  # another process may be training it
            attempt.enter_context(RunFolder(context.settings.runs / run_id).lock())
            if runs.is_unfinished(store, run_id):
                claim = _take(store, run_id, configuration, here)
                stack.enter_context(attempt.pop_all())
                return claim
    return None


def _resume_requested(
    context: Context, configurations: Sequence[Configuration], run_id: str, here: Holder, stack: ExitStack
) -> _Claim:
    store = context.store
    runs.require_resumable(store, run_id, configurations)
    require_not_held_elsewhere(runs.get_run(store, run_id), here)
    stack.enter_context(RunFolder(context.settings.runs / run_id).lock())
    # the process before this one may have finished it
    configuration = runs.require_resumable(store, run_id, configurations)
    return _take(store, run_id, configuration, here)


def _take(store: Store, run_id: str, configuration: Configuration, here: Holder) -> _Claim:
    lease = Lease(store, run_id, here)
    lease.take()
    return _Claim(lease, configuration, resumed=True)


def _create(
    context: Context, configuration: Configuration, dataset: Manifest, here: Holder, stack: ExitStack
) -> _Claim:
    if finished := runs.find_finished(context.store, configuration):
        logger.info("The run %s has trained the same to its end; another seed would train other weights.", finished)
    run_id = runs.create_run(context.store, configuration, dataset, {**flow_run_tags(), **here.tags()})
    stack.enter_context(RunFolder(context.settings.runs / run_id).lock())
    return _Claim(Lease(context.store, run_id, here), configuration, resumed=False)


@contextmanager
def _abort_for_a_successor() -> Iterator[None]:
    """Leave the flow run's state alone when another process continues the same flow run.

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
def _recorded_outcome(store: Store, lease: Lease) -> Iterator[None]:
    """Record in MLflow how the body ended; what is raised is the body's own failure, also when MLflow does not answer.

    Raises:
        LeaseLostError: Another process has taken over the run, which may have caused whatever the body raised.
    """

    def finish() -> None:
        lease.require()
        runs.end_run(store, lease.run_id, "FINISHED")

    try:
        yield
        repeated(finish)
    except LeaseLostError:
        raise
    except BaseException as error:  # Ctrl-C, SIGTERM and a cancellation are not Exceptions
        outcome: runs.Outcome = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            lease.require()
            runs.end_run(store, lease.run_id, outcome, str(error) if isinstance(error, DcganError) else "")
        except TrackingError as failure:
            logger.warning("The run %s is not marked %s: %s", lease.run_id, outcome, failure)
        raise


def _remove_surplus(context: Context, lease: Lease) -> None:
    """Remove the checkpoints that a finished run does not keep, here and in MLflow.

    The run is not marked as finished yet, so that one that is killed here is resumed, and removes the rest. Not to
    remove them is no reason to fail.
    """
    store, newest = context.store, context.settings.keep_checkpoints
    if newest is None:
        return
    try:
        best = recorded_best_epoch(lease.require())
        surplus = surplus_checkpoints(uploaded_checkpoints(store, lease.run_id), newest, best)
        remove_checkpoints(store, lease, surplus)
        RunFolder(context.settings.runs / lease.run_id).remove_surplus(newest, best)
    except (TrackingError, OSError) as error:
        logger.warning("Checkpoints that need not be kept stay, until dcgan prune removes them: %s", error)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Make every temporary file of this process in a run's folder.

    A process that is killed leaves them, TensorFlow's and MLflow's too; the next owner of the run removes them.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder, ignore_cleanup_errors=True) as temporary:
        tempfile.tempdir = temporary
        try:
            yield
        finally:
            tempfile.tempdir = before
