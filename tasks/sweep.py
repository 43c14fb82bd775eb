"""A sweep from its beginning to its end: each trial a flow run, in this process or on the workers of a deployment."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import tags
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from dcgan.errors import ConfigurationError, SweepError, TrackingError, mask_credentials
from dcgan.files import TEMPORARY_PREFIX, exclusive_lock
from dcgan.sweep import SEED, SweepPlan
from tasks.context import Context
from tasks.flow_run import flow_run_id, flow_run_tags
from tasks.results import SweepSummary, TrialResult
from tasks.retries import repeated
from tasks.sweep_report import csv_table, markdown_table, plot_png
from tasks.workers import has_worker, runs_several
from tracking import runs
from tracking.sweeps import Trial, TrialRun, Trials, distances_by_epoch, open_sweep_run, record_sweep, trial_runs
from tracking.tags import PARENT_RUN, TRIAL

logger = logging.getLogger("dcgan.sweep")

POLL_SECONDS = 5.0
OUTAGE_SECONDS = 600.0
SHOWN_CHARACTERS = 300  # of an answer of Prefect's server
CRASHED_SECONDS = 120.0  # after which nobody starts a crashed flow run again


@dataclass(frozen=True)
class Sweep:
    """The sweep of this process, as long as it has its lock.

    Attributes:
        context: Settings and store.
        plan: What it tries.
        trials: Its trials.
        run_id: Id of its own MLflow run.
        parameters: Parameters of every trial's flow run, besides its seed and hyperparameters.
    """

    context: Context
    plan: SweepPlan
    trials: Trials
    run_id: str
    parameters: Mapping[str, Any]

    def name_of(self, trial: Trial) -> str:
        """Return the name of a trial's flow run, until it starts."""
        return f"{self.plan.title}-trial-{trial.number}"

    def tags_of(self, trial: Trial) -> list[str]:
        """Return the tags of a trial's flow run, by which it is found again, and which its MLflow run takes over."""
        return [f"{PARENT_RUN}={self.run_id}", f"{TRIAL}={trial.number}"]

    def parameters_of(self, trial: Trial) -> dict[str, Any]:
        """Return the parameters of a trial's flow run."""
        changes = self.plan.changes_at(trial.point)
        return {**self.parameters, "seed": trial.point[SEED], "hyperparameters": changes}

    def summary(self) -> SweepSummary:
        """Return the trials as they are now."""
        found = trial_runs(self.context.store, self.run_id)
        results = []
        for number, (point, state) in self.trials.states().items():
            run = found.get(number)
            results.append(
                TrialResult(
                    number=number,
                    state=state,
                    point=point,
                    frechet_distance=run.distance if run else None,
                    generator_loss=run.generator_loss if run else None,
                    run_id=run.run_id if run else None,
                )
            )
        return SweepSummary(
            name=self.plan.title,
            run_id=self.run_id,
            trials=tuple(results),
            logarithmic=self.plan.logarithmic,
            tracking_uri=mask_credentials(self.context.settings.tracking_uri),
            state_dir=self.context.settings.root,
        )


@dataclass(frozen=True)
class InThisProcess:
    """Runs each trial at once, by calling the flow."""

    flow: Callable[..., object]

    def advance(self, sweep: Sweep, trial: Trial) -> bool:
        """Run a trial to its end."""
        try:
            with tags(*sweep.tags_of(trial)):
                self.flow(**sweep.parameters_of(trial))
        except Exception as error:  # noqa: BLE001 - whatever ended one trial, the others are tried
            logger.warning("Trial %d failed: %s", trial.number, mask_credentials(str(error) or type(error).__name__))
        return True


@dataclass(frozen=True)
class OnWorkers:
    """Runs each trial as a flow run of a deployment, on the workers of its pool.

    Attributes:
        deployment: Name of the deployment.
        early_stopping: Whether to stop a trial that is worse than the median of the others at the same epoch.
    """

    deployment: str
    early_stopping: bool = False
    _started: dict[int, FlowRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a deployment that cannot run trials.

        Raises:
            ConfigurationError: It does not exist, or this sweep occupies the only worker of its pool.
        """
        with get_client(sync_client=True) as client:
            try:
                deployment = client.read_deployment_by_name(self.deployment)
            except ObjectNotFound:
                raise ConfigurationError(
                    f"Prefect's server has no deployment {self.deployment}; expected one that 'make deploy' creates, "
                    "such as dcgan/train."
                ) from None
            own, pool = flow_run_id(), deployment.work_pool_name
            own_pool = client.read_flow_run(UUID(own)).work_pool_name if own else None
            if pool and pool == own_pool and not runs_several(client, pool):
                raise ConfigurationError(
                    f"The deployment {self.deployment} runs on the work pool {pool}, whose only worker this sweep "
                    "occupies; expected a second worker of that pool, or a deployment on another one."
                )
            if pool and not has_worker(client, pool):
                logger.warning("No worker of the work pool %s is online; the trials wait until one is started.", pool)

    def advance(self, sweep: Sweep, trial: Trial) -> bool:
        """Start a trial's flow run, or find the one that an interrupted sweep started; return whether it has ended.

        A server that does not answer is asked again later: the flow runs continue without the sweep.

        Raises:
            SweepError: The server refuses the request.
        """
        try:
            with get_client(sync_client=True) as client:
                flow_run = self._started.get(trial.number) or self._start(client, sweep, trial)
                self._started[trial.number] = flow_run
                return _is_over(client.read_flow_run(flow_run.id))
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            if isinstance(error, httpx.HTTPStatusError) and _is_refusal(error.response):
                answer = error.response.text[:SHOWN_CHARACTERS]
                raise SweepError(
                    f"Prefect's server refuses trial {trial.number} with HTTP {error.response.status_code}: {answer}"
                ) from None
            logger.warning("Prefect's server does not answer about trial %d, which continues: %s", trial.number, error)
            return False
        except ObjectNotFound:
            logger.warning("The flow run of trial %d was deleted.", trial.number)
            return True

    def stop(self, trial: Trial) -> bool:
        """Cancel a trial's flow run, and return whether it could still be cancelled."""
        flow_run = self._started.get(trial.number)
        if flow_run is None:
            return False
        try:
            with get_client(sync_client=True) as client:
                state: State[Any] = Cancelling(message="Others were better at the same epoch.")
                answer: OrchestrationResult[Any] = client.set_flow_run_state(flow_run.id, state)
        except (httpx.TransportError, httpx.HTTPStatusError, ObjectNotFound) as error:
            logger.warning("Trial %d is not stopped: %s", trial.number, error)
            return False
        # else it ended by itself meanwhile; of one that had not begun, Prefect refuses Cancelling, and sets Cancelled
        return answer.status == SetStateStatus.ACCEPT or bool(answer.state and answer.state.is_cancelled())

    def _start(self, client: SyncPrefectClient, sweep: Sweep, trial: Trial) -> FlowRun:
        name = sweep.name_of(trial)
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=sweep.tags_of(trial))),
            sort=FlowRunSort.START_TIME_DESC,
        )
        for flow_run in found:
            state = flow_run.state
            if state and not (state.is_cancelled() or (state.is_crashed() and _is_over(flow_run))):
                logger.info("Trial %d continues in the flow run %s.", trial.number, flow_run.id)
                return flow_run
        created = run_deployment(
            self.deployment,
            parameters=sweep.parameters_of(trial),
            flow_run_name=name,
            tags=sweep.tags_of(trial),
            idempotency_key=f"{name}-{len(found)}",  # a repeated request finds what the first one made
            timeout=0,
        )
        return cast(FlowRun, created)  # in synchronous code it is not a coroutine


def _is_refusal(response: httpx.Response) -> bool:
    """Return whether a server will answer the same request in the same way again."""
    return response.is_client_error and response.status_code not in (
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_MANY_REQUESTS,
    )


def _is_over(flow_run: FlowRun) -> bool:
    """Return whether a flow run has ended for good; for a while, a crashed one may be started again."""
    state = flow_run.state
    if state is None or not state.is_final():
        return False
    return not state.is_crashed() or (datetime.now(UTC) - state.timestamp).total_seconds() > CRASHED_SECONDS


@contextmanager
def sweep(context: Context, plan: SweepPlan, parameters: Mapping[str, Any]) -> Iterator[Sweep]:
    """Own a sweep, new or interrupted, while the body runs its trials; afterwards MLflow knows how it ended.

    Raises:
        ConfigurationError: Another process of this machine runs the same sweep.
        SweepError: The sweeps' database cannot be used.
        TrackingError: The store does not answer.
    """
    store = context.store
    with _locked(context.settings.sweeps / f"{plan.title}.lock", plan):
        trials = Trials(context.settings.sweeps_storage, plan)
        run_id = open_sweep_run(store, plan, flow_run_tags())
        try:
            this = Sweep(context, plan, trials, run_id, parameters)
            yield this
            repeated(lambda: runs.end_run(store, run_id, "FINISHED"))
        except BaseException as error:
            outcome: runs.Outcome = "FAILED" if isinstance(error, Exception) else "KILLED"
            try:
                runs.end_run(store, run_id, outcome, str(error) if isinstance(error, SweepError) else "")
            except TrackingError as failure:
                logger.warning("The run %s is not marked %s: %s", run_id, outcome, failure)
            raise


@contextmanager
def _locked(path: Path, plan: SweepPlan) -> Iterator[None]:
    refusal = f"The sweep {plan.title} is run by another process; expected another --name, or to wait for that one."
    with exclusive_lock(path, timeout_seconds=0, refusal=refusal):
        yield


def run_trials(this: Sweep, runner: InThisProcess | OnWorkers, parallel: int) -> SweepSummary:
    """Run the trials of a sweep that are not finished, at most `parallel` at a time, and return what became of them.

    Raises:
        SweepError: No trial finished, or the sweeps' database cannot be used.
        TrackingError: MLflow does not answer for ten minutes.
    """
    waiting = this.trials.to_run()
    active: list[Trial] = []
    while True:
        while len(active) < parallel and (trial := next(waiting, None)):
            logger.info("Trial %d: %s", trial.number, ", ".join(f"{name}={v}" for name, v in trial.point.items()))
            active.append(trial)
        if not active:
            return _concluded(this)
        found = _patient_trial_runs(this)
        over = [trial for trial in active if _is_finished(trial, found) or runner.advance(this, trial)]
        stopped = []
        if isinstance(runner, OnWorkers) and runner.early_stopping and not over:
            stopped = _stop_hopeless(this, runner, active, found)
        if over or stopped:
            _record_ended(this, over)
            active = [trial for trial in active if trial not in over + stopped]
        else:
            time.sleep(POLL_SECONDS)


def _concluded(this: Sweep) -> SweepSummary:
    summary = this.summary()
    publish_files(this, summary)
    if not summary.finished:
        raise SweepError(f"No trial of the sweep {this.plan.title} finished: {summary.sentence}")
    return summary


def publish_files(this: Sweep, summary: SweepSummary) -> None:
    """Upload the table and the plot of a sweep's trials to its MLflow run.

    Raises:
        TrackingError: The store does not answer.
    """
    files = {
        "trials.csv": csv_table(summary).encode(),
        "trials.md": markdown_table(summary).encode(),
        "trials.png": plot_png(summary),
    }
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=this.context.settings.sweeps) as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        best = summary.best.frechet_distance if summary.best else None
        record_sweep(this.context.store, this.run_id, Path(folder), len(summary.finished), best)


def _is_finished(trial: Trial, found: Mapping[int, TrialRun]) -> bool:
    return trial.number in found and found[trial.number].finished


def _stop_hopeless(this: Sweep, runner: OnWorkers, active: list[Trial], found: Mapping[int, TrialRun]) -> list[Trial]:
    """Stop the running trials that are worse than others were at the same epoch, and return them."""
    stopped = []
    for trial in active:
        if (run := found.get(trial.number)) and _report(this, trial, run) and runner.stop(trial):
            logger.info("Trial %d is stopped: others were better at the same epoch.", trial.number)
            this.trials.stop(trial)
            stopped.append(trial)
    return stopped


def _report(this: Sweep, trial: Trial, run: TrialRun) -> bool:
    """Report a trial's epochs, with which later ones are compared, and return whether it is hopeless."""
    try:
        return this.trials.report(trial, distances_by_epoch(this.context.store, run))
    except TrackingError as error:
        logger.warning("%s Trial %d is not compared with others.", error, trial.number)
        return False


def _record_ended(this: Sweep, over: list[Trial]) -> None:
    """Record what became of trials that are over; finished are those whose MLflow run is."""
    found = _patient_trial_runs(this)
    for trial in over:
        if _is_finished(trial, found):
            run = found[trial.number]
            if this.plan.searched:
                _report(this, trial, run)
            this.trials.finish(trial, run.distance)
        else:
            this.trials.fail(trial)
            logger.warning("Trial %d failed.", trial.number)
    try:
        publish_files(this, this.summary())
    except TrackingError as error:
        logger.warning("%s The sweep continues; its table and plot are uploaded later.", error)


def _patient_trial_runs(this: Sweep) -> dict[int, TrialRun]:
    """Return the runs of the trials; trials on workers survive a store that is away, so their sweep does too."""
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return trial_runs(this.context.store, this.run_id)
        except TrackingError as error:
            if time.monotonic() > deadline:
                raise
            logger.warning("%s The sweep asks again.", error)
            time.sleep(POLL_SECONDS)
