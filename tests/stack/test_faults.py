"""`make stack` for real: all behind the proxy is broken while it trains, and nothing is lost or recorded twice."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import psutil
import psycopg2
import pytest
from mlflow import MlflowClient

from operations.servers import worker_command
from operations.supervisor import Role, Service, Supervisor
from tests.e2e.chaos import Outcome, Place, outcome
from tests.service_stack import (
    CHECKOUT,
    ServiceStack,
    read_until_ready,
    start_stack,
    wait_until,
    with_passwords,
)
from tracking.tags import EXPERIMENT, RECORDED_EPOCHS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]

EPOCHS = 8
AWAY_SECONDS = 30  # how long the S3 server does not answer
LEFT_BEHIND = {"leftovers", "measurements"}  # of the folders of one machine; a run on two machines has two
PARAMETERS = {"recipe": "smoke", "epochs": EPOCHS, "source": "bundled", "seed": 0}


@dataclass(frozen=True)
class RemotePlace(Place):
    """A place whose MLflow store is behind a server."""

    uri: str = ""

    def client(self) -> MlflowClient:
        """Return a client of the store."""
        return MlflowClient(self.uri, self.uri)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStack]:
    """Yield a running `make stack` with the deployments; its own workers are suspended, the tests start theirs."""
    state = tmp_path_factory.mktemp("team") / "state"
    stack = start_stack(state, program="operations.stack")
    try:
        read_until_ready(stack)
        stack = with_passwords(stack)
        stack.deploy()
        workers = [each for each in stack.processes() if "operations.worker" in each.cmdline()]
        for worker in workers:
            worker.suspend()
        yield stack
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.resume()
    finally:
        stack.process.terminate()
        stack.process.communicate(timeout=180)


@pytest.fixture
def logins(team: ServiceStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process' MLflow client the password."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, team.environment[name])


@pytest.fixture
def machines(team: ServiceStack, tmp_path: Path) -> Iterator["Machines"]:
    """Yield what starts workers that share nothing but the servers."""
    machines = Machines(team, tmp_path)
    yield machines
    machines.supervisor.stop()


class Machines:
    """Workers of the pool `cpu`, each with a state folder and a home of its own, as on a machine of its own."""

    def __init__(self, team: ServiceStack, root: Path) -> None:
        self._team, self._root = team, root
        self.supervisor = Supervisor(root / "logs", Event(), grace_seconds=30)

    def start(self, name: str) -> Service:
        """Start a machine's worker."""
        state, home = self._root / name / "state", self._root / name / "home"
        home.mkdir(parents=True)
        own = {"DCGAN_STATE": str(state), "PREFECT_HOME": str(state / "prefect"), "HOME": str(home)}
        shared = {"DCGAN_HOME": str(CHECKOUT), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        environment = {**self._team.environment, **shared, **own, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        return self.supervisor.start(name, worker_command("cpu", name), environment, Role.WORKER)


def process_of(team: ServiceStack, name: str) -> psutil.Process:
    """Return the process of one of the stack's services, by words of its command line."""
    words = {
        "prefect": {"server", "start", "--no-services"},
        "redis": {"redis-server"},
        "bucket": {"-s3"},
        "services": {"services", "start"},
    }[name]
    return next(
        each
        for each in psutil.Process(team.process.pid).children()
        if all(any(word in argument for argument in each.cmdline()) for word in words)
    )


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
    """Servers are killed or stop answering, then the machine that trains dies: the other ends with the same bits."""
    first = machines.start("first")
    client = MlflowClient(team.mlflow, team.mlflow)
    (deployment,) = [each for each in team.find("deployments") if each["name"] == "smoke"]
    flow_run = team.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": PARAMETERS})["id"]
    wait_until("the first epoch", lambda: recorded(client) >= 1)

    server = process_of(team, "prefect")
    server.kill()
    redis = process_of(team, "redis")
    redis.kill()
    wait_until("the second epoch", lambda: recorded(client) >= 2)
    bucket = process_of(team, "bucket")
    bucket.suspend()
    time.sleep(AWAY_SECONDS)
    bucket.resume()
    wait_until("the third epoch", lambda: recorded(client) >= 3)
    assert drop_connections(team) > 3
    wait_until("the fourth epoch", lambda: recorded(client) >= 4)

    assert recorded(client) < EPOCHS
    for victim in [*first.children(), *first.session()]:
        victim.kill()
    first.process.wait()
    declare_crashed(team, flow_run)
    machines = Machines(team, tmp_path / "other")
    try:
        machines.start("second")
        wait_until("the end of the flow run", lambda: team.ask(f"flow_runs/{flow_run}")["state_type"] == "COMPLETED")
    finally:
        machines.supervisor.stop()

    place = RemotePlace(tmp_path / "remote", {}, team.mlflow)
    reference = Place(tmp_path / "reference", {})
    reference.run("flows.train", *(f"--{name}={value}" for name, value in PARAMETERS.items()))
    assert differences(outcome(place), outcome(reference)) == []
    restarted = [each for each in (server, redis) if each.is_running()]
    assert restarted == []
    wait_until("the killed server", lambda: process_of(team, "prefect").status() != psutil.STATUS_ZOMBIE)


def declare_crashed(team: ServiceStack, flow_run: str) -> None:
    """Do what the automation does when a flow run sends no heartbeat for two minutes."""
    body = {"state": {"type": "CRASHED", "message": "No heartbeat for two minutes."}, "force": False}
    assert team.ask(f"flow_runs/{flow_run}/set_state", body)["status"] == "ACCEPT"


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Return what differs between two outcomes, apart from what belongs to one machine."""
    return [each for each in one.differences(other) if each.split(":")[0] not in LEFT_BEHIND]
