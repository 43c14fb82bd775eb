"""The training task: what it leaves in MLflow and on disk, and how it resumes after a kill."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from imageio.v3 import imread
from mlflow.types import Schema

from dcgan.images import image_grid, upscaled
from dcgan.model.ema import untrained_images
from dcgan.rng import fixed_latents
from dcgan.training.checkpoint import load_checkpoint
from dcgan.training.loop import train as epoch_reports
from tasks.train import exactness
from tracking.metrics import metric_name

METRICS = {
    "train/generator_loss",
    "train/discriminator_loss",
    "train/real_accuracy",
    "train/generated_accuracy",
    "speed/images_per_second",
    "speed/epoch_seconds",
    "speed/overhead_seconds",
    "speed/peak_memory_mb",
}
PATIENCE_SECONDS = 120


def test_every_epoch_is_recorded_once(trained):
    """Each metric has exactly one value at each epoch, with the epoch as its step."""
    client = trained.context.store.client
    assert set(client.get_run(trained.run.run_id).data.metrics) >= METRICS
    for name in METRICS:
        history = client.get_metric_history(trained.run.run_id, name)
        assert sorted(metric.step for metric in history) == [1, 2], name


def test_the_run_says_what_was_trained(trained):
    """Every field of the recipe is a parameter; tags and inputs record data, code, machine and seed."""
    run = trained.context.store.client.get_run(trained.run.run_id)
    recipe = trained.run.configuration.recipe
    assert run.info.run_name == "smoke-seed7"
    assert run.data.params == {name: str(value) for name, value in {**recipe.model_dump(), "seed": 7}.items()}
    assert run.data.tags["dcgan.dataset_digest"] == trained.dataset.digest
    assert run.data.tags["mlflow.dcgan.fingerprint"] == trained.run.configuration.fingerprint()
    assert run.data.tags["dcgan.exact"] == "yes"
    assert "CPU" in run.data.tags["dcgan.device"]
    assert {"dcgan.tensorflow", "dcgan.keras", "dcgan.processor", "dcgan.host", "dcgan.code_digest"} <= set(
        run.data.tags
    )
    inputs = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    assert inputs.keys() == {"training", "evaluation"}
    assert trained.dataset.digest.startswith(inputs["training"].digest)
    schema = Schema.from_json(json.dumps(json.loads(inputs["evaluation"].schema)["mlflow_colspec"]))
    assert schema.input_names() == ["image", "label"]
    assert json.loads(inputs["evaluation"].profile)["num_rows"] == trained.dataset.manifest.test.rows


def test_a_run_says_when_its_bits_are_not_promised(trained):
    """GPUs, and resuming with another number of threads, end the promise; resuming exactly does not renew it."""
    state = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    threads = state.metadata.environment["threads"]
    elsewhere = state.metadata.model_copy(update={"environment": {**state.metadata.environment, "threads": "99"}})
    assert exactness("cpu", None) == {"dcgan.exact": "yes"}
    assert exactness("cpu", state) == {}
    assert exactness("cpu", dataclasses.replace(state, metadata=elsewhere)) == {
        "dcgan.exact": f"not promised: resumed from epoch 2 although threads was 99, is {threads}"
    }
    (reason,) = exactness("gpu", None).values()
    assert reason.startswith("not promised: operations of GPUs")


def test_every_epoch_has_its_sample_grid(trained):
    """Each epoch's grid is an MLflow image with the epoch as its step, pixel for pixel; step 0 is untrained."""
    client = trained.context.store.client
    files = [Path(file.path).name for file in client.list_artifacts(trained.run.run_id, "images")]
    grids_logged = sorted(name for name in files if name.endswith(".png"))
    assert [name.split("+")[:3] for name in grids_logged] == [["samples", "step", step] for step in "012"]
    assert len(files) == 6, "each with MLflow's small copy, and nothing else: a foreign file would hide them all"
    recipe = trained.run.configuration.recipe
    untrained = image_grid(untrained_images(recipe, 7, fixed_latents(7, 16, 100)))
    grids = load_checkpoint(trained.run.folder / "states" / "epoch-000002").grids
    for name, grid in zip(grids_logged, [untrained, *grids], strict=True):
        local = client.download_artifacts(trained.run.run_id, f"images/{name}")
        assert np.array_equal(imread(Path(local)), upscaled(grid))


def test_the_newest_checkpoint_is_kept(trained):
    """Of a finished run the last one is in MLflow, complete, and on disk; nothing awaits upload."""
    client = trained.context.store.client
    (listed,) = (file.path for file in client.list_artifacts(trained.run.run_id, "checkpoints"))
    assert listed == "checkpoints/epoch-000002"
    uploaded = load_checkpoint(Path(client.download_artifacts(trained.run.run_id, listed)))
    assert uploaded.weights_sha256() == trained.trained.checkpoint.weights_sha256()
    assert list((trained.run.folder / "checkpoints").iterdir()) == []
    assert [path.name for path in (trained.run.folder / "states").iterdir()] == ["epoch-000002"]


def test_the_kept_checkpoint_can_be_trained_further(trained):
    """With more epochs, training begins at the epoch after it."""
    client, run = trained.context.store.client, trained.run
    kept = load_checkpoint(Path(client.download_artifacts(run.run_id, "checkpoints/epoch-000002")))
    recipe = run.configuration.recipe.model_copy(update={"epochs": 3})
    longer = run.configuration.model_copy(update={"recipe": recipe})
    (report,) = epoch_reports(longer, np.concatenate(list(trained.dataset.train.blocks())), kept)
    assert [record.epoch for record in report.checkpoint.metadata.records] == [1, 2, 3]


@pytest.mark.slow
def test_the_library_alone_gives_the_same_bits(trained):
    """Tracking and tasks change nothing: the bare training loop ends in the same weights."""
    images = np.concatenate(list(trained.dataset.train.blocks()))
    *_, last = epoch_reports(trained.run.configuration, images)
    assert last.checkpoint.weights_sha256() == trained.trained.checkpoint.weights_sha256()


def test_the_result_is_the_state_after_the_last_epoch(trained):
    """The checkpoint that the loop yielded last is returned: the one in the run's folder."""
    checkpoint = trained.trained.checkpoint
    saved = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    assert (checkpoint.metadata.epoch, checkpoint.metadata.step) == (2, 32)
    assert checkpoint.metadata == saved.metadata
    assert checkpoint.weights_sha256() == saved.weights_sha256()
    assert {metric_name(name) for name in checkpoint.metadata.records[-1].metrics} == METRICS
    assert trained.trained.resumed_from_epoch == 0
    assert trained.trained.images_per_second > 0


KILLED_TRAINING = """
    import flows
    from dcgan.data.dataset import open_dataset
    from dcgan.evaluation.examine import References
    from dcgan.provenance import Configuration
    import sys
    from tasks.context import open_context
    from tasks.settings import Settings
    from tasks.train import train
    from tasks.training_run import training_run

    settings = Settings.read()
    configuration = Configuration.model_validate_json(sys.argv[1])
    dataset = open_dataset(settings.prepared / configuration.dataset_digest, configuration.dataset_digest)
    context = open_context(settings)
    with training_run(context, configuration, dataset.manifest, "auto") as run:
        train.fn(context, run, dataset, References(dataset, settings.classifiers), "cpu")
"""


@pytest.mark.slow
def test_a_killed_training_run_resumes_exactly_from_mlflow(pipeline, state, tmp_path):
    """Killed, its states on the disk lost, the MLflow run resumes and ends in the bits of an uninterrupted one."""
    dataset = pipeline.prepare()
    configuration = pipeline.configuration(dataset, epochs=4)
    *_, reference = epoch_reports(configuration, np.concatenate(list(dataset.train.blocks())))

    with (tmp_path / "killed.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(KILLED_TRAINING),
                configuration.model_dump_json(),
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        folder = _wait_for_epoch(state / "runs", 2, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL, "the process ended before it could be killed"
    store = pipeline.open().store
    for path in (folder / "states").glob("epoch-*"):
        (path / "arrays.npz").unlink()

    run, trained = pipeline.train(configuration, dataset)

    assert run.resumed
    assert run.run_id == folder.name
    assert 1 <= trained.resumed_from_epoch < 4
    assert trained.checkpoint.weights_sha256() == reference.checkpoint.weights_sha256()
    steps = [metric.step for metric in store.client.get_metric_history(run.run_id, "train/generator_loss")]
    assert sorted(steps) == [1, 2, 3, 4]
    losses = {m.step: m.value for m in store.client.get_metric_history(run.run_id, "train/discriminator_loss")}
    records = reference.checkpoint.metadata.records
    assert losses == {record.epoch: record.metrics["discriminator_loss"] for record in records}
    grids = [file.path for file in store.client.list_artifacts(run.run_id, "images") if file.path.endswith(".png")]
    assert len(grids) == 5


def _wait_for_epoch(runs: Path, epoch: int, process: subprocess.Popen) -> Path:
    """Return the run's folder as soon as it has the state after an epoch."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for folder in runs.glob("*"):
            if (folder / "states" / f"epoch-{epoch:06d}").exists():
                return folder
        time.sleep(0.01)
    raise AssertionError(f"no state after epoch {epoch} appeared")
