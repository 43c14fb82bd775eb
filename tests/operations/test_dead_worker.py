"""A training that is dead, or is only taken for dead: its flow run goes on under another worker, in one MLflow run."""

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

from operations import programs
from operations.addresses import ServerSettings
from operations.deploy import deploy
from operations.processes import Child, Fleet
from tests.desk import CHECKOUT, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EPOCHS = 6
SILENCE_SECONDS = 240  # two minutes without a heartbeat, and the server's own clock


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerSettings:
    """Return settings of servers on free ports over an empty state folder."""
    monkeypatch.setenv("DCGAN_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    return ServerSettings()


@pytest.fixture
def fleet(settings: ServerSettings) -> Iterator[Fleet]:
    """Yield a fleet of both servers, which answer and know the deployments and automations."""
    fleet = Fleet(settings.logs, Event())
    environment = programs.server_environment(settings)
    for name, command in (("prefect", programs.prefect_server), ("mlflow", programs.mlflow_server)):
        fleet.start(name, command(settings), CHECKOUT, environment)
    fleet.wait_until(lambda: programs.prefect_answers(settings), "Prefect's server", 180)
    fleet.wait_until(lambda: programs.mlflow_answers(settings), "MLflow's server", 180)
    deploy(settings)
    yield fleet
    fleet.end(())


@pytest.fixture
def first_worker(settings: ServerSettings, fleet: Fleet, tmp_path: Path) -> Iterator[Child]:
    """Yield a worker that may die; it has a fleet of its own, which does not mind."""
    own = Fleet(tmp_path / "first", Event())
    worker = own.start("first", programs.worker("cpu", "first"), CHECKOUT, programs.environment(settings))
    yield worker
    own.end([worker])


def run_deployment(settings: ServerSettings) -> str:
    """Start a training of several epochs through its deployment, and return the flow run's id."""
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
    """Return what Prefect's API knows of a flow run."""
    return httpx.get(f"{settings.prefect.url}/flow_runs/{flow_run_id}", timeout=30).raise_for_status().json()


def test_another_worker_goes_on_with_the_same_mlflow_run(
    settings: ServerSettings, fleet: Fleet, first_worker: Child
) -> None:
    """After SIGKILL the silent run becomes Crashed, is scheduled again, and completes the one MLflow run it began."""
    client = MlflowClient(settings.mlflow.url)

    def recorded() -> list[int]:
        return [int(run.data.tags.get("dcgan.recorded_epochs", 0)) for run in client.search_runs(["1"])]

    flow_run_id = run_deployment(settings)
    fleet.wait_until(lambda: max(recorded(), default=0) >= 1, "The first epoch", 300)
    for victim in [*first_worker.started(), *first_worker.session()]:
        victim.kill()
    first_worker.process.wait()
    assert flow_run(settings, flow_run_id)["state_type"] == "RUNNING"
    assert max(recorded()) < EPOCHS

    fleet.start("second", programs.worker("cpu", "second"), CHECKOUT, programs.environment(settings))
    fleet.wait_until(lambda: flow_run(settings, flow_run_id)["run_count"] == 2, "Another start", SILENCE_SECONDS)
    fleet.wait_until(lambda: flow_run(settings, flow_run_id)["state_type"] == "COMPLETED", "The training", 300)

    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "generator_loss")]
    assert steps == list(range(1, EPOCHS + 1))


def test_a_training_taken_for_dead_gives_way_to_its_successor(
    settings: ServerSettings, fleet: Fleet, first_worker: Child
) -> None:
    """A machine hangs and is declared dead; awake again, its training stops and leaves run and flow run as they are."""
    client = MlflowClient(settings.mlflow.url)

    def tag(name: str) -> str:
        return next((run.data.tags.get(name, "") for run in client.search_runs(["1"])), "")

    flow_run_id = run_deployment(settings)
    fleet.wait_until(lambda: tag("dcgan.recorded_epochs") != "", "The first epoch", 300)
    trainers = first_worker.started()
    for process in trainers:
        process.suspend()
    assert int(tag("dcgan.recorded_epochs")) < EPOCHS
    held_by = tag("dcgan.lease")
    declare_crashed(settings, flow_run_id)
    assert trainers
    assert all(process.is_running() for process in trainers)

    fleet.start("second", programs.worker("cpu", "second"), CHECKOUT, programs.environment(settings))
    fleet.wait_until(lambda: tag("dcgan.lease") != held_by, "The successor", SILENCE_SECONDS)
    for process in trainers:
        process.resume()
    _, alive = psutil.wait_procs(trainers, timeout=120)
    assert alive == []
    assert first_worker.process.poll() is None
    said = first_worker.log.read_text()
    assert re.search(r"The MLflow run \w{32} was taken over by .*; this process stops and records nothing more\.", said)

    fleet.wait_until(lambda: flow_run(settings, flow_run_id)["state_type"] == "COMPLETED", "The training", 300)
    states = httpx.get(f"{settings.prefect.url}/flow_run_states/", params={"flow_run_id": flow_run_id}).json()
    ends = [state["type"] for state in states if state["type"] in ("CRASHED", "FAILED", "CANCELLED", "COMPLETED")]
    assert ends == ["CRASHED", "COMPLETED"]
    (run,) = client.search_runs(["1"])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "generator_loss")]
    assert steps == list(range(1, EPOCHS + 1))
    assert len(client.search_model_versions(f"run_id = '{run.info.run_id}'")) == 1


def declare_crashed(settings: ServerSettings, flow_run_id: str) -> None:
    """Do what the automation does when it hears no heartbeat."""
    body = {"state": {"type": "CRASHED", "message": "No heartbeat for two minutes."}, "force": False}
    answer = httpx.post(f"{settings.prefect.url}/flow_runs/{flow_run_id}/set_state", json=body, timeout=30)
    assert answer.raise_for_status().json()["status"] == "ACCEPT"
