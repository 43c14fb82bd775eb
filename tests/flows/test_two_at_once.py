"""Two training runs that begin at the same moment in one state folder that does not exist yet."""

import json
from contextlib import ExitStack

import pytest
from mlflow import MlflowClient

from dcgan.files import TEMPORARY_PREFIX
from tests.servers import train_process
from tracking.metrics import metric_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_two_training_runs_at_once(small_folder, tmp_path):
    """Each has its own run, with every epoch once, and its own version; with the same seed they end in equal bits."""
    state = tmp_path / "state"
    files = [tmp_path / f"{number}.json" for number in range(2)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                train_process(state, "--seed", "1", "--source", str(small_folder), "--summary", str(file))
            )
            for file in files
        ]
        logs = [process.stderr.read() for process in processes]
        assert [process.wait() for process in processes] == [0, 0], "\n".join(logs)
    summaries = [json.loads(file.read_text()) for file in files]
    assert {summary["model_version"] for summary in summaries} == {1, 2}
    assert len({summary["run_id"] for summary in summaries}) == 2
    assert len({summary["weights_sha256"] for summary in summaries}) == 1
    client = MlflowClient(f"sqlite:///{state / 'mlflow.db'}")
    for summary in summaries:
        run = client.get_run(summary["run_id"])
        assert run.info.status == "FINISHED"
        names = [metric_name(name) for name in summary["metrics"]]
        assert run.data.metrics.keys() >= set(names)
        for name in names:
            assert [metric.step for metric in client.get_metric_history(summary["run_id"], name)] == [1, 2], name
        assert len(client.list_artifacts(summary["run_id"], "images")) == 6
    assert len([path for path in (state / "data" / "prepared").iterdir() if path.is_dir()]) == 1
    assert list(state.rglob(f"{TEMPORARY_PREFIX}*")) == []
