"""A sweep: its trials in Optuna's database, its own run in MLflow, and the runs of its trials below that one."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

import optuna
from mlflow.entities import Param, ViewType
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import OptunaError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from dcgan.errors import SweepError, mask_credentials
from dcgan.files import first_line
from dcgan.sweep import Point, Range, SweepPlan, Value
from dcgan.training.checkpoint import SELECTION_METRIC
from tracking import runs
from tracking.create import create_once
from tracking.metrics import BEST_FRECHET_DISTANCE, metric_name, recorded_curves
from tracking.store import Store, translated_errors
from tracking.tags import PARENT_RUN, SWEEP, SWEEP_REPORT, TRIAL

optuna.logging.set_verbosity(optuna.logging.WARNING)

UNEVALUATED = math.inf  # Optuna demands a number of a finished trial
MAX_RUNS = 10_000
# a trial is compared with others from its second epoch on, once so many have finished
FIRST_COMPARED_EPOCH = 2
FINISHED_BEFORE_STOPPING = 4

State = Literal["running", "finished", "failed", "stopped"]
STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "stopped",
}


@dataclass(frozen=True)
class Trial:
    """A trial: its number within the sweep, and the point that it tries."""

    number: int
    point: Point


class Trials:
    """The trials of a sweep in Optuna's database, where a sweep that was killed finds them again.

    Args:
        storage: Address of the database.
        plan: What the sweep tries.

    Raises:
        SweepError: The database cannot be used.
    """

    def __init__(self, storage: str, plan: SweepPlan) -> None:
        self._address = storage
        self._plan = plan
        self._distributions = {name: _distribution(axis) for name, axis in plan.axes.items()}
        with self._translated_errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                storage=storage, study_name=plan.title, direction="minimize", load_if_exists=True
            )
            # seeded, but so that a resumed sweep does not draw its first points again
            seed = int(plan.fingerprint()[:8], 16) // 2 + len(self._study.trials)
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            self._study.pruner = optuna.pruners.MedianPruner(FINISHED_BEFORE_STOPPING, FIRST_COMPARED_EPOCH)

    def to_run(self) -> Iterator[Trial]:
        """Yield the trials to run, each determined when it is asked for: first those that were interrupted.

        A trial that failed in an earlier process is tried again, as a new one.
        """
        with self._translated_errors():
            found = self._study.trials
        running = []
        for trial in found:
            if trial.state == TrialState.RUNNING:
                if trial.params.keys() == self._distributions.keys():
                    running.append(trial)
                else:  # killed while its point was written
                    self._tell(trial.number, TrialState.FAIL)
        yield from (Trial(trial.number, trial.params) for trial in running)
        if self._plan.searched:
            ended = [trial for trial in found if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            for _ in range(self._plan.trials - len(running) - len(ended)):
                yield self._ask()
        else:
            yield from (self._add(point) for point in self._plan.points() if not self._is_begun(point))

    def finish(self, trial: Trial, distance: float | None) -> None:
        """Record that a trial finished, with its lowest Fréchet distance, None where it was not evaluated."""
        self._tell(trial.number, TrialState.COMPLETE, UNEVALUATED if distance is None else distance)

    def fail(self, trial: Trial) -> None:
        """Record that a trial failed."""
        self._tell(trial.number, TrialState.FAIL)

    def report(self, trial: Trial, distances: Mapping[int, float]) -> bool:
        """Record a trial's Fréchet distances by epoch, and return whether it is hopeless.

        Hopeless is one whose best distance is worse than the median of the finished trials' at the same epoch.
        """
        with self._translated_errors():
            known = next(each for each in self._study.trials if each.number == trial.number)
            if known.state.is_finished():
                return False
            reporting = optuna.trial.Trial(self._study, known._trial_id)
            for epoch, distance in distances.items():
                if epoch not in known.intermediate_values:
                    reporting.report(distance, epoch)
            return reporting.should_prune()

    def stop(self, trial: Trial) -> None:
        """Record that a trial was stopped early."""
        self._tell(trial.number, TrialState.PRUNED)

    def states(self) -> dict[int, tuple[Point, State]]:
        """Return the point and the state of every trial by its number."""
        with self._translated_errors():
            return {trial.number: (trial.params, STATES[trial.state]) for trial in self._study.trials}

    def _ask(self) -> Trial:
        with self._translated_errors():
            trial = self._study.ask(self._distributions)
            return Trial(trial.number, trial.params)

    def _is_begun(self, point: Point) -> bool:
        """Return whether a trial of a point runs or has ended, here or on another machine that runs this sweep too."""
        with self._translated_errors():
            return any(trial.params == point and trial.state != TrialState.FAIL for trial in self._study.trials)

    def _add(self, point: Point) -> Trial:
        mark = {"mark": uuid4().hex}  # Optuna does not say which trial it added, and the last may be another machine's
        with self._translated_errors():
            self._study.add_trial(
                optuna.create_trial(
                    state=TrialState.RUNNING, params=point, distributions=self._distributions, user_attrs=mark
                )
            )
            added = next(trial for trial in self._study.trials if trial.user_attrs == mark)
            return Trial(added.number, added.params)

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        with self._translated_errors():
            # where two machines run one sweep, the first one's word stands
            self._study.tell(number, value, state, skip_if_finished=True)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (OptunaError, SQLAlchemyError, ImportError) as error:
            cause = error.__cause__ or error
            raise SweepError(
                f"The sweeps' database {mask_credentials(self._address)} cannot be used: "
                f"{mask_credentials(first_line(cause))}."
            ) from error


@dataclass(frozen=True)
class TrialRun:
    """The MLflow run of a trial.

    Attributes:
        run_id: Its id.
        finished: Whether it is finished.
        metrics: The last value of each of its metrics.
    """

    run_id: str
    finished: bool
    metrics: Mapping[str, float]

    @property
    def distance(self) -> float | None:
        """The lowest Fréchet distance of its epochs, None where none was evaluated."""
        return self.metrics.get(metric_name(BEST_FRECHET_DISTANCE))

    @property
    def generator_loss(self) -> float | None:
        """Its last generator loss, in nats, None before the first epoch's end."""
        return self.metrics.get(metric_name("generator_loss"))


def open_sweep_run(store: Store, plan: SweepPlan, more_tags: Mapping[str, str]) -> str:
    """Return the id of the sweep's own run, which is RUNNING again or created."""
    client, experiment = store.client, store.experiment_id
    with translated_errors(store.uri):
        found = client.search_runs(
            [experiment], f"tags.`{SWEEP}` = '{plan.title}'", ViewType.ACTIVE_ONLY, max_results=1
        )
        if found:
            run_id = str(found[0].info.run_id)
            runs.reopen_run(store, run_id, more_tags)
        else:
            tags = {SWEEP: plan.title, **runs.origin(), **more_tags}
            run_id = create_once(
                lambda token: str(client.create_run(experiment, tags=tags | token, run_name=plan.title).info.run_id),
                lambda matching: [run.info.run_id for run in client.search_runs([experiment], matching)],
                client.delete_run,
            )
        shown = {"recipe": plan.recipe, **plan.changes, **{name: _shown(axis) for name, axis in plan.axes.items()}}
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in shown.items()])
    return run_id


def trial_runs(store: Store, sweep_run_id: str) -> dict[int, TrialRun]:
    """Return the run of each trial that has one, by the trial's number: the finished one, or else the newest."""
    with translated_errors(store.uri):
        found = store.client.search_runs(
            [store.experiment_id],
            f"tags.`{PARENT_RUN}` = '{sweep_run_id}'",
            ViewType.ACTIVE_ONLY,
            max_results=MAX_RUNS,
            order_by=["attributes.start_time ASC"],
        )
    by_number: dict[int, TrialRun] = {}
    for run in found:
        written = run.data.tags.get(TRIAL, "")
        if not written.isdecimal() or ((earlier := by_number.get(int(written))) and earlier.finished):
            continue
        by_number[int(written)] = TrialRun(run.info.run_id, run.info.status == runs.FINISHED, run.data.metrics)
    return by_number


def distances_by_epoch(store: Store, run: TrialRun) -> dict[int, float]:
    """Return the Fréchet distance of each epoch of a trial that was evaluated."""
    return recorded_curves(store, run.run_id, run.metrics, [SELECTION_METRIC]).get(SELECTION_METRIC, {})


def record_sweep(store: Store, run_id: str, folder: Path, finished: int, best: float | None) -> None:
    """Record how far a sweep is.

    Args:
        store: The store.
        run_id: Its MLflow run.
        folder: The files that show it, to upload.
        finished: Number of finished trials.
        best: The lowest Fréchet distance of them.
    """
    runs.upload_folder(store, run_id, folder, SWEEP_REPORT)
    if finished:
        runs.describe_sweep(store, run_id)
    if best is not None:
        with translated_errors(store.uri):
            store.client.log_metric(run_id, f"{SWEEP_REPORT}/{BEST_FRECHET_DISTANCE}", best, step=finished)


def _distribution(axis: Range | tuple[Value, ...]) -> BaseDistribution:
    if not isinstance(axis, Range):
        return CategoricalDistribution(axis)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return IntDistribution(axis.low, axis.high, log=axis.logarithmic)
    return FloatDistribution(axis.low, axis.high, log=axis.logarithmic)


def _shown(axis: Range | tuple[Value, ...]) -> str:
    if isinstance(axis, Range):
        return f"{axis.low}..{axis.high}{':log' if axis.logarithmic else ''}"
    return ", ".join(map(str, axis))
