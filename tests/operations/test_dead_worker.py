"""A training run whose worker stops, dies or is declared dead: another worker resumes it in the same MLflow run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from operations.deploy import deploy
from operations.servers import ServerSettings, worker_command, worker_environment
from operations.supervisor import Role, Service, Supervisor
from operations.ui import start_servers
from tasks.flow_run import STOPPED

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EPOCHS = 6
SILENCE_SECONDS = 240  # two minutes without a heartbeat, and the server's own clock


@pytest.fixture
def supervisor(settings: ServerSettings) -> Iterator[Supervisor]:
    """Yield the supervisor of both servers, which answer and know the deployments and automations."""
    supervisor = Supervisor(settings.logs, Event())
    try:
        start_servers(settings, supervisor)
        deploy(settings)
        yield supervisor
    finally:
        supervisor.stop()


@pytest.fixture
def first_worker(settings: ServerSettings, supervisor: Supervisor, tmp_path: Path) -> Iterator[Service]:
    """Yield a worker that may die, because the other supervisor does not watch it."""
    own = Supervisor(tmp_path / "first", Event())
    yield start_worker(settings, own, "first")
    own.stop()


def start_worker(settings: ServerSettings, supervisor: Supervisor, name: str) -> Service:
    """Start a worker of the pool `cpu`."""
    command = worker_command("cpu", name)
    return supervisor.start(name, command, worker_environment(settings), Role.WORKER)


def run_deployment(settings: ServerSettings) -> str:
    """Start a training run of several epochs through its deployment, and return the flow run's id."""
    command = ["deployment", "run", "dcgan/smoke", "--param", f"epochs={EPOCHS}", "--param", "source=bundled"]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *command],
        env={**os.environ, "PREFECT_API_URL": settings.prefect.url},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", done.stdout)[0]


def flow_run(settings: ServerSettings, flow_run_id: str) -> dict[str, object]:
    """Return what Prefect's API knows about a flow run."""
    return httpx.get(f"{settings.prefect.url}/flow_runs/{flow_run_id}", timeout=30).raise_for_status().json()


def test_another_worker_resumes_the_same_mlflow_run(
    settings: ServerSettings, supervisor: Supervisor, first_worker: Service
) -> None:
    """After SIGKILL the silent run becomes Crashed, is scheduled again, and completes the one MLflow run it began."""
    client = MlflowClient(settings.mlflow.url)

    def recorded() -> list[int]:
        return [int(run.data.tags.get("dcgan.recorded_epochs", 0)) for run in client.search_runs(["1"])]

    flow_run_id = run_deployment(settings)
    supervisor.wait_until(lambda: max(recorded(), default=0) >= 1, "The first epoch", 300)
    for victim in [*first_worker.children(), *first_worker.session()]:
        victim.kill()
    first_worker.process.wait()
    assert flow_run(settings, flow_run_id)["state_type"] == "RUNNING"
    assert max(recorded()) < EPOCHS

    start_worker(settings, supervisor, "second")
    supervisor.wait_until(lambda: flow_run(settings, flow_run_id)["run_count"] == 2, "Another start", SILENCE_SECONDS)
    supervisor.wait_until(lambda: flow_run(settings, flow_run_id)["state_type"] == "COMPLETED", "The training run", 300)

    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/generator_loss")]
    assert steps == list(range(1, EPOCHS + 1))


def test_a_worker_ends_its_flow_run_before_itself(
    settings: ServerSettings, supervisor: Supervisor, first_worker: Service
) -> None:
    """At SIGTERM it takes no other flow run; the one that it has becomes KILLED in MLflow and is scheduled again."""
    client = MlflowClient(settings.mlflow.url)
    running = run_deployment(settings)
    supervisor.wait_until(lambda: len(client.search_runs(["1"])) == 1, "The training run", 300)
    waiting = run_deployment(settings)
    (trainer,) = first_worker.children()
    first_worker.process.terminate()
    assert first_worker.process.wait(60) == 0
    assert not trainer.is_running()
    (run,) = client.search_runs(["1"])
    assert run.info.status == "KILLED"
    assert flow_run(settings, waiting)["state_type"] == "SCHEDULED"
    supervisor.wait_until(lambda: flow_run(settings, running)["state_type"] == "SCHEDULED", "The automation", 60)
    states = httpx.get(f"{settings.prefect.url}/flow_run_states/", params={"flow_run_id": running}, timeout=30).json()
    assert [state["message"] for state in states if state["type"] == "CRASHED"] == [STOPPED], "which is no crash"
    assert "Traceback" not in first_worker.log.read_text()


def test_a_run_that_was_declared_dead_gives_way_to_its_successor(
    settings: ServerSettings, supervisor: Supervisor, first_worker: Service
) -> None:
    """A machine hangs and is declared dead; awake again, its process stops and changes neither run nor flow run."""
    client = MlflowClient(settings.mlflow.url)

    def tag(name: str) -> str:
        return next((run.data.tags.get(name, "") for run in client.search_runs(["1"])), "")

    flow_run_id = run_deployment(settings)
    supervisor.wait_until(lambda: tag("dcgan.recorded_epochs") != "", "The first epoch", 300)
    trainers = first_worker.children()
    for process in trainers:
        process.suspend()
    assert int(tag("dcgan.recorded_epochs")) < EPOCHS
    held_by = tag("mlflow.dcgan.lease")
    declare_crashed(settings, flow_run_id)
    assert trainers
    assert all(process.is_running() for process in trainers)

    start_worker(settings, supervisor, "second")
    supervisor.wait_until(lambda: tag("mlflow.dcgan.lease") != held_by, "The successor", SILENCE_SECONDS)
    for process in trainers:
        process.resume()
    _, alive = psutil.wait_procs(trainers, timeout=120)
    assert alive == []
    assert first_worker.process.poll() is None
    log = first_worker.log.read_text()
    assert re.search(r"The MLflow run \w{32} was taken over by .*; this process stops and records nothing more\.", log)

    supervisor.wait_until(lambda: flow_run(settings, flow_run_id)["state_type"] == "COMPLETED", "The training run", 300)
    states = httpx.get(f"{settings.prefect.url}/flow_run_states/", params={"flow_run_id": flow_run_id}).json()
    ends = [state["type"] for state in states if state["type"] in ("CRASHED", "FAILED", "CANCELLED", "COMPLETED")]
    assert ends == ["CRASHED", "COMPLETED"]
    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/generator_loss")]
    assert steps == list(range(1, EPOCHS + 1))
    assert len(client.search_model_versions(f"run_id = '{run.info.run_id}'")) == 1


def declare_crashed(settings: ServerSettings, flow_run_id: str) -> None:
    """Do what the automation does when a flow run sends no heartbeat."""
    body = {"state": {"type": "CRASHED", "message": "No heartbeat for two minutes."}, "force": False}
    answer = httpx.post(f"{settings.prefect.url}/flow_runs/{flow_run_id}/set_state", json=body, timeout=30)
    assert answer.raise_for_status().json()["status"] == "ACCEPT"
