"""Moments of a training, told from what it has written: where `chaos` can aim a kill."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from dcgan.files import TEMPORARY_PREFIX

EPOCHS = 4
LAST_STATE = f"epoch-{EPOCHS:06d}"
MODELS = "mlartifacts/dcgan/models/*"
READY = "status = 2"  # MLflow's number for a logged model that is whole


@dataclass(frozen=True)
class Traces:
    """What a training has written under its state folder since a time; what an earlier process left does not count."""

    state: Path
    since: float = 0.0

    def there(self, pattern: str) -> list[Path]:
        """Return the new paths of a pattern."""
        found = []
        for path in self.state.glob(pattern):
            with suppress(FileNotFoundError):  # it has just been renamed or removed
                if path.stat().st_mtime >= self.since:
                    found.append(path)
        return found

    def rows(self, table: str, condition: str) -> int | None:
        """Return how many rows of MLflow's database meet a condition, None while it is locked or not there."""
        query = f"SELECT count(*) FROM {table} WHERE {condition}"  # noqa: S608 - both are written in this file
        try:
            with closing(sqlite3.connect(f"file:{self.state / 'mlflow.db'}?mode=ro", uri=True, timeout=0)) as database:
                return int(database.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return None


@dataclass(frozen=True)
class Moment:
    """A moment to kill a training.

    Attributes:
        name: what the training does then.
        reached: whether it has come.
        passes: whether it is over again soon, so that the kill must be checked to have hit it.
        delay: seconds to wait once it has come.
    """

    name: str
    reached: Callable[[Traces], bool]
    passes: bool = True
    delay: float = 0.0


def _there(pattern: str) -> Callable[[Traces], bool]:
    return lambda traces: bool(traces.there(pattern))


def _uploading_checkpoint(traces: Traces) -> bool:
    waiting = {path.name for path in traces.state.glob("runs/*/checkpoints/epoch-*")}
    return any(path.name in waiting for path in traces.there("mlartifacts/dcgan/*/artifacts/checkpoints/epoch-*"))


def _after_last_epoch(traces: Traces) -> bool:
    return bool(traces.there(f"runs/*/states/{LAST_STATE}")) and not any(traces.state.glob("runs/*/report"))


def _logging_model(traces: Traces) -> bool:
    return bool(traces.there(MODELS)) and traces.rows("logged_models", READY) == 0


def _registering(traces: Traces) -> bool:
    return _is_logged(traces) and traces.rows("model_versions", "1") == 0


def _ending(traces: Traces) -> bool:
    return _is_logged(traces) and traces.rows("model_versions", "1") == traces.rows("runs", "status = 'RUNNING'") == 1


def _is_logged(traces: Traces) -> bool:
    # files are asked first, because that is cheap and nearly always enough
    return any(traces.state.glob(MODELS)) and traces.rows("logged_models", READY) == 1


# in the order in which a training comes to them
AIMS = (
    Moment("preparing the data", _there(f"data/prepared/{TEMPORARY_PREFIX}*")),
    Moment("creating MLflow's database", _there(f"{TEMPORARY_PREFIX}*.db")),
    Moment("writing a state", _there(f"runs/*/states/{TEMPORARY_PREFIX}*")),
    Moment("uploading a checkpoint", _uploading_checkpoint),
    Moment("after the last epoch", _after_last_epoch),
    Moment("logging the model", _logging_model),
    Moment("between model and version", _registering),
    Moment("after the registration", _ending),
)

# what stays once it is there; between any two of them anything may happen
MILESTONES = (
    Moment("begun", lambda _: True),
    Moment("Prefect's database", _there("prefect/prefect.db")),
    Moment("data", _there("data")),
    Moment("MLflow's database", _there("mlflow.db")),
    Moment("run", _there("runs/*")),
    Moment("first state", _there("runs/*/states/epoch-*")),
    Moment("last state", _there(f"runs/*/states/{LAST_STATE}")),
    Moment("report", _there("runs/*/report/*")),
    Moment("model", _there(MODELS)),
)


def between_aliases(champion: int) -> Moment:
    """Return the moment of a promotion when `previous` names the champion already, and `champion` still does."""

    def reached(traces: Traces) -> bool:
        named = ("alias = 'previous'", "alias = 'champion'")
        return all(traces.rows("registered_model_aliases", f"{alias} AND version = {champion}") == 1 for alias in named)

    return Moment("between the aliases", reached)


def stage(state: Path, since: float) -> str:
    """Return what a dead training was doing, as far as it left traces since it began."""
    aimed = [moment.name for moment in AIMS if moment.reached(Traces(state, since))]
    lasting = [moment.name for moment in MILESTONES if moment.reached(Traces(state))]
    return aimed[-1] if aimed else f"after: {lasting[-1]}"
