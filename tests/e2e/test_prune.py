"""`dcgan prune` beside training runs: a live one and one that was killed lose nothing, an old one can be used again."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from dcgan.evaluation.examine import References
from dcgan.rng import fixed_latents
from operations import export, prune
from tasks.context import open_context
from tasks.register import register
from tasks.render import render
from tasks.settings import Settings
from tasks.train import train
from tasks.training_run import training_run
from tests.servers import collect_garbage, read_until, train_process
from tests.service_stack import CHECKOUT
from tracking.registry import load_generator, resolve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_training_run_continues_beside_it(state, small_folder):
    """While it trains, and after it was killed, everything that it needs to be resumed stays."""

    def prune_now():
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "prune", "--delete"],
            env={**os.environ, "DCGAN_STATE": str(state)},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "There is nothing to remove.\n", "")

    arguments = ("--epochs", "1000", "--source", str(small_folder))
    with train_process(state, *arguments) as process:
        read_until(process, "Epoch 2 of ")
        prune_now()
        read_until(process, "Epoch ")
        process.send_signal(signal.SIGKILL)
        process.wait()
    prune_now()
    with train_process(state, *arguments) as process:
        read_until(process, "Resuming the MLflow run ")
        log = read_until(process, "Epoch ")
        assert "Epoch 1 of " not in log[-1]
    store = open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=None)).store
    assert len(store.client.search_runs([store.experiment_id])) == 1


def test_a_pruned_run_is_used_again(pipeline, state, tmp_path, monkeypatch):
    """Started again, its flow run renders and registers it from MLflow alone; `mlflow gc` leaves its version."""
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "f")
    context, dataset = pipeline.open(), pipeline.prepare()
    configuration = pipeline.configuration(dataset, epochs=3)
    run, trained = pipeline.train(configuration, dataset)
    assert prune.main(["--delete"]) == 0
    assert not run.folder.exists()
    references = References(dataset, pipeline.settings.classifiers)
    with training_run(context, configuration, dataset.manifest, "auto") as again:
        resumed = train.fn(context, again, dataset, references, "cpu")
        frames = render.fn(context, again, resumed.checkpoint)
        number = register.fn(context, again, dataset.manifest, resumed.checkpoint)
    assert (again.run_id, resumed.resumed_from_epoch, frames) == (run.run_id, 3, 3)
    assert resumed.checkpoint.weights_sha256() == trained.checkpoint.weights_sha256()

    assert prune.main(["--delete"]) == 0
    assert not run.folder.exists()
    assert export.main(["--version", str(number), str(tmp_path / "exported")]) == 0
    version, latents = resolve(context.store, number), fixed_latents(3, 4, 100)
    images = load_generator(context.store, version)(latents)
    artifacts = state / "mlartifacts" / "dcgan" / run.run_id
    assert artifacts.exists()
    context.store.client.delete_run(run.run_id)
    assert collect_garbage(context.store.uri, context.store.uri) == [run.run_id]
    assert not (artifacts / "artifacts").exists()
    with pytest.raises(MlflowException, match="not found"):
        context.store.client.get_run(run.run_id)
    assert np.array_equal(load_generator(context.store, version)(latents), images)
