"""The pipeline as its user runs it: `make ui`, `make deploy`, `prefect deployment run dcgan/smoke --watch`."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import numpy as np
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.service_stack import CHECKOUT, ServiceStack, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WATCH_SECONDS = 600  # for 20 epochs on a busy machine


@dataclass(frozen=True)
class FlowRun:
    """A flow run that has ended, what `--watch` printed of it, and its MLflow run."""

    id: str
    output: str
    run_id: str


def prefect(stack: ServiceStack, *arguments: str, check: bool = True) -> str:
    """Run the Prefect command line as a user would, and return what it prints."""
    done = stack.run_prefect(*arguments, seconds=WATCH_SECONDS)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def flow_run_id(output: str) -> str:
    """Return the id in what `prefect deployment run` prints."""
    return re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", output)[0]


def flow_run_state(stack: ServiceStack, flow_run: str) -> str:
    """Return the name of a flow run's state."""
    return httpx.get(f"{stack.prefect}/flow_runs/{flow_run}").json()["state_name"]


def mlflow_runs(stack: ServiceStack, flow_run: str) -> list[Run]:
    """Return the MLflow runs of a flow run."""
    client = MlflowClient(stack.mlflow)
    experiment = client.get_experiment_by_name("dcgan")
    tagged = f"tags.`prefect.flow_run_id` = '{flow_run}'"
    return list(client.search_runs([experiment.experiment_id], tagged)) if experiment else []


@pytest.fixture(scope="module")
def deployed(stack: ServiceStack) -> ServiceStack:
    """Return the running servers and workers, with the deployments on them."""
    stack.deploy()
    return stack


@pytest.fixture(scope="module")
def smoke(deployed: ServiceStack) -> FlowRun:
    """Run `dcgan/smoke` through the worker, and wait until it ends."""
    parameters = ["--param", "seed=5", "--param", 'hyperparameters={"beta_1": 0.25}']
    output = prefect(deployed, "deployment", "run", "dcgan/smoke", *parameters, "--watch")
    identifier = flow_run_id(output)
    (run,) = mlflow_runs(deployed, identifier)
    return FlowRun(identifier, output, run.info.run_id)


def test_the_watched_run_completes(deployed, smoke):
    """`--watch` ends with success, and the flow run and its seven tasks are Completed."""
    assert flow_run_state(deployed, smoke.id) == "Completed"
    task_runs = httpx.post(
        f"{deployed.prefect}/task_runs/filter", json={"flow_runs": {"id": {"any_": [smoke.id]}}}
    ).json()
    names = sorted(task_run["name"].rsplit("-", 1)[0] for task_run in task_runs)
    assert names == ["describe", "download", "prepare", "record", "register", "render", "train"]
    assert {task_run["state_name"] for task_run in task_runs} == {"Completed"}
    (run,) = mlflow_runs(deployed, smoke.id)
    assert run.data.params["beta_1"] == "0.25"


def test_every_epoch_is_in_the_logs(deployed, smoke):
    """The library's lines of each epoch are on the flow run's page, in what `--watch` prints and in the worker's log.

    The progress is not among them: its artifact changes without an event.
    """
    logs = httpx.post(f"{deployed.prefect}/logs/filter", json={"logs": {"flow_run_id": {"any_": [smoke.id]}}}).json()
    messages = [log["message"] for log in logs]
    worker = "".join(path.read_text() for path in Path(deployed.state).glob("logs/worker-*.log"))
    for epoch in (1, 2):
        (line,) = (message for message in messages if message.startswith(f"Epoch {epoch} of 2: generator loss "))
        assert "images/s" in line
        assert worker.count(line) == 1
        assert " ".join(smoke.output.split()).count(f"Epoch {epoch} of 2: generator loss ") == 1
    assert "prefect.artifact.updated" not in smoke.output
    assert "prefect.flow-run.Completed" in smoke.output


def test_each_side_links_to_the_other(deployed, smoke):
    """The flow run has a link to the MLflow run, whose tags name the flow run and its address."""
    artifacts = {
        artifact["key"]: artifact["data"]
        for artifact in httpx.post(
            f"{deployed.prefect}/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [smoke.id]}}}
        ).json()
    }
    assert artifacts.keys() == {"mlflow-run", "training-progress", "samples", "training-summary"}
    assert f"/runs/{smoke.run_id}?workflowType=machine_learning" in artifacts["mlflow-run"]
    assert f"/runs/{smoke.run_id}?workflowType=machine_learning)" in artifacts["training-summary"]
    assert artifacts["training-progress"] == 100
    (run,) = mlflow_runs(deployed, smoke.id)
    assert run.data.tags["prefect.flow_run_url"].endswith(f"/flow-run/{smoke.id}")


def test_mlflow_has_every_epoch_once(deployed, smoke):
    """Status, metrics, samples, checkpoints, report and the folder for TensorFlow Serving are all there."""
    client = MlflowClient(deployed.mlflow)
    assert client.get_run(smoke.run_id).info.status == "FINISHED"
    for name in ("train/generator_loss", "train/discriminator_loss", "speed/images_per_second"):
        assert [metric.step for metric in client.get_metric_history(smoke.run_id, name)] == [1, 2]
    assert len(client.list_artifacts(smoke.run_id, "images")) == 6
    assert {file.path for file in client.list_artifacts(smoke.run_id)} >= {"checkpoints", "images", "report", "serving"}


def test_the_registered_model_predicts(deployed, smoke):
    """The version that the run registered generates images."""
    client = MlflowClient(deployed.mlflow)
    (version,) = client.search_model_versions(f"run_id = '{smoke.run_id}'")
    mlflow.set_tracking_uri(deployed.mlflow)
    images = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}").predict(
        np.zeros((3, 100), np.float32)
    )
    assert images.shape == (3, 28, 28, 1)
    assert np.abs(images).max() <= 1


def test_the_model_is_served_over_http(deployed, smoke, free_port):
    """`mlflow models serve` answers latents with images; it looks for uvicorn on the PATH."""
    command = ["models", "serve", "-m", "models:/dcgan-generator/1", "--env-manager", "local", "-p", str(free_port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command],
        env={**deployed.environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{free_port}"

        def answers() -> bool:
            assert server.poll() is None
            try:
                return httpx.get(f"{url}/ping").is_success
            except httpx.HTTPError:
                return False

        wait_until("the model's server", answers)
        latents = np.zeros((2, 100)).tolist()
        answer = httpx.post(f"{url}/invocations", json={"inputs": latents}, timeout=60)
        assert np.shape(json.loads(answer.text)["predictions"]) == (2, 28, 28, 1)
    finally:
        processes = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        psutil.wait_procs(processes, timeout=30)


def test_a_cancelled_training_run_is_killed_and_resumes(deployed):
    """Cancelled in Prefect, the MLflow run is KILLED; run again with the same parameters, it resumes."""
    parameters = ["--param", "seed=6", "--param", "epochs=20", "--param", "source=bundled"]
    cancelled = flow_run_id(prefect(deployed, "deployment", "run", "dcgan/smoke", *parameters))
    (run,) = wait_until("a first epoch", lambda: _with_epochs(mlflow_runs(deployed, cancelled)))
    prefect(deployed, "flow-run", "cancel", cancelled)
    wait_until("the cancelled state", lambda: flow_run_state(deployed, cancelled) == "Cancelled")
    client = MlflowClient(deployed.mlflow)
    wait_until("the killed run", lambda: client.get_run(run.info.run_id).info.status == "KILLED")

    again = flow_run_id(prefect(deployed, "deployment", "run", "dcgan/smoke", *parameters, "--watch"))
    (resumed,) = mlflow_runs(deployed, again)
    assert resumed.info.run_id == run.info.run_id
    assert resumed.info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/generator_loss")] == list(range(1, 21))


def _with_epochs(runs: list[Run]) -> list[Run]:
    return [run for run in runs if "train/generator_loss" in run.data.metrics]


def test_nothing_is_written_elsewhere(deployed, smoke):
    """All of it is under the state folder; the checkout has nothing."""
    tracked = subprocess.run(
        ["git", "status", "--porcelain", "--ignored"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    assert "mlruns" not in tracked
    assert "mlflow.db" not in tracked
    assert {"data", "runs", "mlflow.db", "mlartifacts", "prefect"} <= {p.name for p in Path(deployed.state).iterdir()}
