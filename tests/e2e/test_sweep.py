"""A sweep on real workers: two trials at a time, killed in their midst, and gone on with through its deployment."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.client.orchestration import SyncPrefectClient

from tasks.workers import runs_several
from tests.service_stack import CHECKOUT, ServiceStack, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

SWEEP_SECONDS = 900
SEEDS = [0, 1, 2]
EPOCHS = 6
CHANGES = {"epochs": EPOCHS, "max_images": 256}


@pytest.fixture(scope="module")
def workers(stack: ServiceStack) -> Iterator[ServiceStack]:
    """Yield a service stack with its deployments and a second worker of the pool that trains."""
    stack.deploy()
    command = [sys.executable, "-m", "operations.worker", "--pool", "gpu", "--name", "second"]
    with (stack.state / "second.log").open("w") as log:
        second = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**stack.environment, "PREFECT_WORKER_QUERY_SECONDS": "2"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield stack
    second.terminate()
    second.wait(60)


def runs_with(stack: ServiceStack, tag: str) -> list[Run]:
    """Return the MLflow runs that have a tag."""
    client = MlflowClient(stack.mlflow)
    experiment = client.get_experiment_by_name("dcgan")
    return [run for run in client.search_runs([experiment.experiment_id]) if tag in run.data.tags] if experiment else []


def trials(stack: ServiceStack) -> list[Run]:
    """Return the runs of the trials by number."""
    return sorted(runs_with(stack, "dcgan.trial"), key=lambda run: int(run.data.tags["dcgan.trial"]))


def flow_runs(stack: ServiceStack, tag: str) -> list[dict[str, object]]:
    """Return the flow runs that have a tag."""
    return [each for each in stack.find("flow_runs") if tag in each["tags"]]


def through_prefect(stack: ServiceStack, **parameters: object) -> "subprocess.CompletedProcess[str]":
    """Run the deployment of the sweep with these parameters, and watch it to its end."""
    given = [f"--param={name}={json.dumps(value)}" for name, value in parameters.items()]
    return stack.run_prefect("deployment", "run", "dcgan-sweep/sweep", *given, "--watch", seconds=SWEEP_SECONDS)


def test_a_killed_sweep_resumes_through_its_deployment(workers):
    """The trials that ran when it was killed continue on their workers; none is repeated, and all are below one run."""
    arguments = ["sweep", "--recipe=smoke", f"--seeds={','.join(map(str, SEEDS))}", "--source=bundled", "--parallel=2"]
    arguments += [f"--set={name}={value}" for name, value in CHANGES.items()]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments, "--deployment=dcgan/train"],
        cwd=CHECKOUT,
        env=workers.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def two_are_training() -> bool:
        assert sweep.poll() is None
        epochs = ["dcgan.recorded_epochs" in run.data.tags for run in trials(workers)]
        return len(epochs) == 2 and all(epochs)

    wait_until("two trials", two_are_training)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    first, second = trials(workers)
    assert {first.info.status, second.info.status} == {"RUNNING"}

    again = through_prefect(workers, recipe="smoke", seeds=SEEDS, hyperparameters=CHANGES, source="bundled", parallel=2)
    assert again.returncode == 0, again.stdout + again.stderr
    runs = trials(workers)
    assert [run.info.status for run in runs] == ["FINISHED"] * len(SEEDS)
    assert [int(run.data.params["seed"]) for run in runs] == SEEDS
    assert [run.info.run_id for run in runs[:2]] == [first.info.run_id, second.info.run_id]
    client = MlflowClient(workers.mlflow)
    for run in runs:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/generator_loss")]
        assert steps == list(range(1, EPOCHS + 1))
    (parent,) = runs_with(workers, "dcgan.sweep")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "sweep")} == {
        "sweep/trials.csv",
        "sweep/trials.md",
        "sweep/trials.png",
    }
    flows = flow_runs(workers, f"mlflow.parentRunId={parent.info.run_id}")
    assert sorted(each["name"] for each in flows) == [f"smoke-seed{seed}-trial{n}" for n, seed in enumerate(SEEDS)]
    assert {each["work_pool_name"] for each in flows} == {"gpu"}
    assert {each["state_name"] for each in flows} == {"Completed"}
    assert all(each["parent_task_run_id"] for each in flows)


def test_a_sweep_does_not_wait_for_the_worker_that_it_occupies(workers):
    """Trials on the sweep's own pool would never start; it fails at once with a sentence, and records nothing."""
    before = len(runs_with(workers, "dcgan.sweep"))
    refused = through_prefect(workers, recipe="smoke", seeds=[7, 8], deployment="dcgan/smoke")
    assert refused.returncode != 0
    (flow_run,) = [each for each in workers.find("flow_runs") if each["state_type"] == "FAILED"]
    message = httpx.get(f"{workers.prefect}/flow_runs/{flow_run['id']}").json()["state"]["message"]
    assert "The deployment dcgan/smoke runs on the work pool cpu, whose only worker this sweep occupies" in message
    assert len(runs_with(workers, "dcgan.sweep")) == before


def test_a_pool_with_a_second_worker_can_run_a_sweep_beside_its_trials(workers):
    """The pool gpu has two workers here, cpu one."""
    with SyncPrefectClient(workers.prefect) as client:
        assert runs_several(client, "gpu")
        assert not runs_several(client, "cpu")
