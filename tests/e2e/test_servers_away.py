"""Servers that go away during training: training continues, nothing is lost, and everything is recorded once."""

import json
import re

import httpx
import pytest
from mlflow import MlflowClient

from tests.servers import mlflow_server, prefect_api, read_until, train_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def epochs_in(lines: list[str]) -> list[int]:
    """Return the epochs whose end is logged."""
    return [int(found[1]) for line in lines if (found := re.search(r"Epoch (\d+) of ", line))]


def require_everything_once(client: MlflowClient, epochs: int) -> str:
    """Check that the only run has each metric and grid of its epochs once, in order; return its id.

    It has all of its checkpoints too, unless it is finished: then it has its newest.
    """
    (run,) = client.search_runs([client.get_experiment_by_name("dcgan").experiment_id])
    expected = list(range(1, epochs + 1))
    for name in run.data.metrics:
        if not name.startswith("system/"):
            history = client.get_metric_history(run.info.run_id, name)
            assert [metric.step for metric in sorted(history, key=lambda each: each.timestamp)] == expected, name
    grids = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    assert sorted(int(path.split("+")[2]) for path in grids) == [0, *expected]
    checkpoints = [file.path for file in client.list_artifacts(run.info.run_id, "checkpoints")]
    kept = expected[-1:] if run.info.status == "FINISHED" else expected
    assert checkpoints == [f"checkpoints/epoch-{epoch:06d}" for epoch in kept]
    return run.info.run_id


def test_both_servers_are_away_for_a_while(tmp_path, small_folder):
    """Training continues; epochs that end meanwhile are recorded, in order and once, and Prefect knows the end."""
    epochs = 20  # the last of which end when both servers are back
    with (
        mlflow_server(tmp_path) as (mlflow, mlflow_url),
        prefect_api(tmp_path) as (prefect, prefect_url),
        train_process(
            tmp_path / "state",
            *("--epochs", str(epochs), "--source", str(small_folder)),
            MLFLOW_TRACKING_URI=mlflow_url,
            PREFECT_API_URL=prefect_url,
        ) as process,
    ):
        read_until(process, "Epoch 2 of ")
        mlflow.stop()
        prefect.stop()
        read_until(process, f"The MLflow server {mlflow_url} does not answer (Connection refused).")
        read_until(process, "Epoch ")
        mlflow.start()
        prefect.start()
        process.stderr.read()
        assert process.wait() == 0
        require_everything_once(MlflowClient(mlflow_url), epochs)
        (flow_run,) = httpx.post(f"{prefect_url}/flow_runs/filter", json={}).json()
        assert flow_run["state_type"] == "COMPLETED"


def test_mlflow_is_away_at_the_end(tmp_path, small_folder):
    """Prefect repeats the task that records what MLflow misses, and the run ends as if nothing had happened."""
    with (
        mlflow_server(tmp_path) as (server, url),
        train_process(
            tmp_path / "state", "--epochs", "3", "--source", str(small_folder), MLFLOW_TRACKING_URI=url
        ) as process,
    ):
        read_until(process, "Epoch 2 of ")
        server.stop()
        read_until(process, "Retry 1/")
        server.start()
        process.stderr.read()
        assert process.wait() == 0
        run_id = require_everything_once(MlflowClient(url), 3)
        assert len(MlflowClient(url).search_model_versions(f"run_id = '{run_id}'")) == 1


def test_mlflow_stays_away(tmp_path, small_folder):
    """The command ends in one sentence; run again with MLflow back, it records everything and trains nothing."""
    arguments = ("--epochs", "5", "--source", str(small_folder), "--summary", str(tmp_path / "summary.json"))
    state = tmp_path / "state"
    with mlflow_server(tmp_path) as (server, url):
        with train_process(state, *arguments, MLFLOW_TRACKING_URI=url) as process:
            read_until(process, "Epoch 2 of ")
            server.stop()
            log = process.stderr.read().splitlines()
            assert process.wait() == 1
        assert epochs_in(log) == [3, 4, 5]
        (folder,) = (path for path in (state / "runs").iterdir() if path.is_dir())
        assert log[-1] == (
            f"error: The MLflow server {url} does not answer (Connection refused); the training is finished and saved "
            f"in {folder}, and the same command records what MLflow misses without training again."
        )
        assert "Traceback" not in "\n".join(log)

        server.start()
        with train_process(state, *arguments, MLFLOW_TRACKING_URI=url) as process:
            again = process.stderr.read().splitlines()
            assert process.wait() == 0
        assert epochs_in(again) == []
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["resumed_from_epoch"] == 5
        assert require_everything_once(MlflowClient(url), 5) == folder.name == summary["run_id"]


def test_prefect_stays_away(tmp_path, small_folder):
    """The run is complete in MLflow, and the command says in one sentence what Prefect does not know."""
    environment = {"PREFECT_CLIENT_MAX_RETRIES": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    with (
        prefect_api(tmp_path) as (server, url),
        train_process(
            tmp_path / "state", "--epochs", "4", "--source", str(small_folder), PREFECT_API_URL=url, **environment
        ) as process,
    ):
        read_until(process, "Epoch 2 of ")
        server.stop()
        log = process.stderr.read().splitlines()
        assert process.wait() == 1
    assert log[-1].startswith(f"error: The Prefect API {url} stopped answering (")
    assert log[-1].endswith("so it does not know how this flow run ended; MLflow has what was done.")
    assert "Traceback" not in "\n".join(log)
    assert epochs_in(log) == [3, 4]
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    run_id = require_everything_once(client, 4)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert len(client.search_model_versions(f"run_id = '{run_id}'")) == 1
