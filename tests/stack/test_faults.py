"""`make stack` for real: all behind the proxy is broken while it trains, and nothing is lost or recorded twice."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.e2e.chaos import Outcome, Place, outcome
from tests.service_stack import ServiceStack, wait_until
from tests.stack.machines import Machines
from tests.stack.processes import process_of
from tracking.tags import EXPERIMENT, RECORDED_EPOCHS, TRIAL

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]

EPOCHS = 6
OUTAGE_SECONDS = 30
SEEDS = [3, 4]
LEFT_BEHIND = {"leftovers", "measurements"}  # of the folders of one machine; a run on two machines has two
PARAMETERS = {"recipe": "smoke", "epochs": EPOCHS, "source": "bundled", "seed": 0}


@dataclass(frozen=True)
class RemotePlace(Place):
    """A place whose MLflow store is behind a server."""

    uri: str = ""

    def client(self) -> MlflowClient:
        """Return a client of the store."""
        return MlflowClient(self.uri, self.uri)


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """Let a process hang while the body runs."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def database(team: ServiceStack) -> str:
    """Return the address of PostgreSQL's own database, for its owner."""
    environment = process_of(team, "services").environ()
    return (
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"].replace("+asyncpg", "").replace("/prefect", "/postgres")
    )


def drop_connections(team: ServiceStack) -> int:
    """Let PostgreSQL end every connection of the servers, and return how many there were."""
    with psycopg2.connect(database(team)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return cursor.fetchone()[0]


def recorded(client: MlflowClient) -> int:
    """Return how many epochs are recorded completely; MLflow itself may be away for the moment."""
    with suppress(Exception):  # MLflow's client has its own exceptions for each way of not answering
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return max(
            (int(run.data.tags.get(RECORDED_EPOCHS, 0)) for run in client.search_runs([experiment.experiment_id])),
            default=0,
        )
    return -1


@pytest.mark.usefixtures("logins")
def test_a_training_run_survives_everything(team: ServiceStack, machines: Machines, tmp_path: Path) -> None:
    """The S3 server hangs twice, the machine that trains dies, and more: the next one ends with the same bits."""
    first = machines.start("first")
    client = MlflowClient(team.mlflow, team.mlflow)
    (deployment,) = [each for each in team.find("deployments") if each["name"] == "smoke"]
    flow_run = team.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": PARAMETERS})["id"]
    wait_until("the first epoch", lambda: recorded(client) >= 1)

    bucket = process_of(team, "bucket")
    with suspended(bucket):
        wait_until("an epoch that MLflow misses", lambda: "does not answer" in first.log.read_text())
        for victim in [*first.children(), *first.session()]:
            victim.kill()
        first.process.wait()
    missing = EPOCHS - recorded(client)
    assert missing > 2

    declare_crashed(team, flow_run)
    second = machines.start("second")
    wait_until("an epoch of the second machine", lambda: recorded(client) > EPOCHS - missing)
    victims = [process_of(team, "prefect"), process_of(team, "redis")]
    for victim in victims:
        victim.kill()
    wait_until("the epoch after that", lambda: recorded(client) > EPOCHS - missing + 1)
    assert drop_connections(team) > 3
    with suspended(bucket):
        time.sleep(OUTAGE_SECONDS)
        wait_until("the end of training", lambda: "Retry 1/" in second.log.read_text())
    wait_until("the end of the flow run", lambda: state_of(team, flow_run) in ("COMPLETED", "FAILED"))
    assert state_of(team, flow_run) == "COMPLETED"

    place, reference = RemotePlace(tmp_path / "remote", {}, team.mlflow), Place(tmp_path / "reference", {})
    reference.run("flows.train", *(f"--{name}={value}" for name, value in PARAMETERS.items()))
    place.temporary.mkdir(parents=True)
    assert differences(outcome(place), outcome(reference)) == []
    assert [victim for victim in victims if victim.is_running()] == []
    assert {process_of(team, name).status() for name in ("prefect", "redis")} <= {"running", "sleeping"}


@pytest.mark.usefixtures("logins")
def test_a_sweep_survives_a_dead_server(team: ServiceStack, machines: Machines) -> None:
    """Its record is in PostgreSQL, its trials run on another machine, and a server dies while they do."""
    machines.start("sweeper")
    machines.start("trainer", pool="gpu")
    (deployment,) = [each for each in team.find("deployments") if each["name"] == "sweep"]
    parameters = {"recipe": "smoke", "seeds": SEEDS, "hyperparameters": {"epochs": 1}, "source": "bundled"}
    flow_run = team.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})["id"]
    client = MlflowClient(team.mlflow, team.mlflow)
    wait_until("a trial", lambda: trials(client))
    process_of(team, "prefect").kill()
    wait_until("the end of the sweep", lambda: state_of(team, flow_run) in ("COMPLETED", "FAILED"))
    assert state_of(team, flow_run) == "COMPLETED"

    runs = trials(client)
    assert sorted(int(run.data.params["seed"]) for run in runs) == SEEDS
    assert [run.info.status for run in runs] == ["FINISHED"] * len(SEEDS)
    with psycopg2.connect(team.environment["DCGAN_SWEEPS_URI"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT state, count(*) FROM trials GROUP BY state")
        assert cursor.fetchall() == [("COMPLETE", len(SEEDS))]


def trials(client: MlflowClient) -> list[Run]:
    """Return the runs of a sweep's trials."""
    with suppress(Exception):  # MLflow itself may be away for the moment
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return [run for run in client.search_runs([experiment.experiment_id]) if TRIAL in run.data.tags]
    return []


def state_of(team: ServiceStack, flow_run: str) -> str:
    """Return the type of a flow run's state."""
    return team.ask(f"flow_runs/{flow_run}")["state_type"]


def declare_crashed(team: ServiceStack, flow_run: str) -> None:
    """Do what the automation does when a flow run sends no heartbeat for two minutes."""
    body = {"state": {"type": "CRASHED", "message": "No heartbeat for two minutes."}, "force": False}
    assert team.ask(f"flow_runs/{flow_run}/set_state", body)["status"] == "ACCEPT"


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Return what differs between two outcomes, apart from what belongs to one machine."""
    return [each for each in one.differences(other) if each.split(":")[0] not in LEFT_BEHIND]
