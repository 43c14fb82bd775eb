"""The training task: what it leaves in MLflow and on disk, and how it goes on after a kill."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from dcgan.checkpoint_files import load_checkpoint
from dcgan.dataset import load_split
from dcgan.randomness import fixed_latents
from dcgan.rendering import image_grid, read_png, upscaled
from dcgan.showcase import untrained_images
from dcgan.training import train as epoch_reports
from tasks.settings import read_settings
from tasks.tracking.store import Store
from tasks.train import exactness

METRICS = {
    "generator_loss",
    "discriminator_loss",
    "real_accuracy",
    "generated_accuracy",
    "images_per_second",
    "epoch_seconds",
    "overhead_seconds",
    "peak_memory_mb",
}
PATIENCE_SECONDS = 120


def test_every_epoch_is_recorded_once(trained):
    """Each metric has exactly one value at each epoch, with the epoch as its step."""
    client = Store(read_settings()).client
    assert set(client.get_run(trained.run.run_id).data.metrics) >= METRICS
    for name in METRICS:
        history = client.get_metric_history(trained.run.run_id, name)
        assert sorted(metric.step for metric in history) == [1, 2], name


def test_the_run_says_what_was_trained(trained):
    """Every field of the recipe is a parameter; tags and inputs tell data, code, machine and seed."""
    run = Store(read_settings()).client.get_run(trained.run.run_id)
    recipe = trained.run.configuration.recipe
    assert run.info.run_name == "smoke-seed7"
    assert run.data.params == {name: str(value) for name, value in {**recipe.model_dump(), "seed": 7}.items()}
    assert run.data.tags["dcgan.dataset_digest"] == trained.dataset.digest
    assert run.data.tags["dcgan.fingerprint"] == trained.run.configuration.fingerprint()
    assert run.data.tags["dcgan.exact"] == "yes"
    assert "CPU" in run.data.tags["dcgan.device"]
    assert {"dcgan.tensorflow", "dcgan.keras", "dcgan.processor", "dcgan.host", "dcgan.code_digest"} <= set(
        run.data.tags
    )
    inputs = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    assert inputs.keys() == {"training", "evaluation"}
    assert trained.dataset.digest.startswith(inputs["training"].digest)


def test_a_run_says_when_its_bits_are_not_promised(trained):
    """GPUs, and going on with another number of threads, take the promise away; going on exactly does not renew it."""
    state = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    threads = state.description.environment["threads"]
    elsewhere = state.description.model_copy(update={"environment": {**state.description.environment, "threads": "99"}})
    assert exactness("cpu", None) == {"dcgan.exact": "yes"}
    assert exactness("cpu", state) == {}
    assert exactness("cpu", dataclasses.replace(state, description=elsewhere)) == {
        "dcgan.exact": f"not promised: went on from epoch 2 although threads was 99, is {threads}"
    }
    (told,) = exactness("gpu", None).values()
    assert told.startswith("not promised: operations of GPUs")


def test_every_epoch_has_its_picture(trained):
    """Each epoch's grid is an MLflow image with the epoch as its step, pixel for pixel; step 0 is not trained yet."""
    client = Store(read_settings()).client
    files = [Path(file.path).name for file in client.list_artifacts(trained.run.run_id, "images")]
    pictures = sorted(name for name in files if name.endswith(".png"))
    assert [name.split("+")[:3] for name in pictures] == [["samples", "step", step] for step in "012"]
    assert len(files) == 6, "each with MLflow's small copy, and nothing else: a foreign file would hide them all"
    recipe = trained.run.configuration.recipe
    untrained = image_grid(untrained_images(recipe, 7, fixed_latents(7, 16, 100)))
    grids = load_checkpoint(trained.run.folder / "states" / "epoch-000002").grids
    for name, grid in zip(pictures, [untrained, *grids], strict=True):
        local = client.download_artifacts(trained.run.run_id, f"images/{name}")
        assert np.array_equal(read_png(Path(local).read_bytes()), upscaled(grid))


def test_checkpoints_are_uploaded_and_let_go(trained):
    """The checkpoints that the recipe asks for are in MLflow, whole, and no longer wait on disk."""
    client = Store(read_settings()).client
    listed = [file.path for file in client.list_artifacts(trained.run.run_id, "checkpoints")]
    assert listed == ["checkpoints/epoch-000001", "checkpoints/epoch-000002"]
    uploaded = load_checkpoint(Path(client.download_artifacts(trained.run.run_id, listed[1])))
    assert uploaded.weights_sha256() == trained.trained.weights_sha256
    assert list((trained.run.folder / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_the_library_alone_gives_the_same_bits(trained):
    """Tracking and tasks change nothing: the bare training loop ends in the same weights."""
    images, _ = load_split(read_settings().prepared / trained.dataset.digest, trained.dataset, "train")
    *_, last = epoch_reports(trained.run.configuration, images)
    assert last.checkpoint.weights_sha256() == trained.trained.weights_sha256


def test_the_result_sums_the_training_up(trained):
    """Epochs, steps and figures are those of the last epoch."""
    assert (trained.trained.epochs, trained.trained.steps) == (2, 16)
    assert trained.trained.metrics.keys() == METRICS
    assert trained.trained.resumed_from_epoch == 0
    assert trained.trained.images_per_second > 0


KILLED_TRAINING = """
    import flows
    from dcgan.dataset import read_manifest
    from dcgan.provenance import Configuration
    from pathlib import Path
    import sys
    from tasks.run import training_run
    from tasks.train import train

    configuration = Configuration.model_validate_json(sys.argv[1])
    dataset = read_manifest(Path(sys.argv[2]))
    with training_run(configuration, dataset, "auto") as run:
        train.fn(run, dataset, "cpu")
"""


@pytest.mark.slow
@pytest.mark.parametrize("survives", ["state on disk", "artifacts in MLflow"])
def test_a_killed_training_goes_on_exactly(survives, pipeline, state, tmp_path):
    """Killed by SIGKILL after an epoch, the same MLflow run goes on and ends in the bits of a run never killed."""
    dataset = pipeline.prepare()
    configuration = pipeline.configuration(dataset, epochs=4)
    *_, reference = epoch_reports(
        configuration, load_split(read_settings().prepared / dataset.digest, dataset, "train")[0]
    )

    with (tmp_path / "killed.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(KILLED_TRAINING),
                configuration.model_dump_json(),
                read_settings().prepared / dataset.digest,
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        folder = _wait_for_epoch(state / "runs", 2, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL, "the training ended before it could be killed"
    store = Store(read_settings())
    if survives == "artifacts in MLflow":
        for path in (folder / "states").iterdir():
            (path / "arrays.npz").unlink()

    run, trained = pipeline.train(configuration, dataset)

    assert run.resumed
    assert run.run_id == folder.name
    assert 1 <= trained.resumed_from_epoch < 4
    assert trained.weights_sha256 == reference.checkpoint.weights_sha256()
    steps = [metric.step for metric in store.client.get_metric_history(run.run_id, "generator_loss")]
    assert sorted(steps) == [1, 2, 3, 4]
    losses = {m.step: m.value for m in store.client.get_metric_history(run.run_id, "discriminator_loss")}
    records = reference.checkpoint.description.records
    assert losses == {record.epoch: record.metrics["discriminator_loss"] for record in records}
    pictures = [file.path for file in store.client.list_artifacts(run.run_id, "images") if file.path.endswith(".png")]
    assert len(pictures) == 5


def _wait_for_epoch(runs: Path, epoch: int, process: subprocess.Popen) -> Path:
    """Return the run's folder as soon as it holds the checkpoint of an epoch that has been uploaded."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for folder in runs.glob("*"):
            if (folder / "states" / f"epoch-{epoch:06d}").exists():
                return folder
        time.sleep(0.01)
    raise AssertionError(f"no state after epoch {epoch} appeared")
