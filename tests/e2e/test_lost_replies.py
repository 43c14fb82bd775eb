"""Every request to MLflow fails once, before or after the server has done it: everything is there exactly once."""

import pytest
from mlflow import MlflowClient

from tests.e2e.test_servers_away import require_everything_once
from tests.faults.proxy import unreliable
from tests.servers import mlflow_server, train_process
from tracking.tags import MODEL_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EPOCHS = 2


@pytest.mark.parametrize("failure", ["unanswered", "unavailable"])
def test_each_endpoint_fails_once(failure, tmp_path, small_folder):
    """One run, one of each metric, grid and checkpoint, one logged model, and one version, in the end."""
    with mlflow_server(tmp_path) as (_, url), unreliable(url, failure) as (proxy, address):
        with train_process(
            tmp_path / "state", "--epochs", str(EPOCHS), "--source", str(small_folder), MLFLOW_TRACKING_URI=address
        ) as process:
            log = process.stderr.read()
            assert process.wait() == 0, log
        failed = set(proxy.asked)
        assert {
            "POST /api/2.0/mlflow/experiments/create",
            "POST /api/2.0/mlflow/runs/create",
            "POST /api/2.0/mlflow/runs/log-batch",
            "POST /api/2.0/mlflow/runs/set-tag",
            "POST /api/2.0/mlflow/runs/update",
            "POST /api/2.0/mlflow/logged-models",
            "PATCH /api/2.0/mlflow/logged-models/ID",
            "POST /api/2.0/mlflow/registered-models/create",
            "POST /api/2.0/mlflow/model-versions/create",
            "PUT /api/2.0/mlflow-artifacts/artifacts",
        } <= failed, failed

        client = MlflowClient(url)
        run_id = require_everything_once(client, EPOCHS)
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert len(run.inputs.dataset_inputs) == 2
        (logged,) = client.search_logged_models([run.info.experiment_id])
        assert (logged.status, logged.source_run_id) == ("READY", run_id)
        (version,) = client.search_model_versions(f"name = '{MODEL_NAME}'")
        assert (version.run_id, version.source) == (run_id, f"models:/{logged.model_id}")
