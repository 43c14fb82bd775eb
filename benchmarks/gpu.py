"""This project on a GPU: its step beside plain ports of it, an epoch of each recipe, and a run that is killed.

Run it as `make gpu-check`. It needs nothing but the checkout and the packages of requirements/gpu.txt; PyTorch takes
part where this interpreter or `.venv-torch` has it.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console

from benchmarks.step import BFLOAT16, MATRIX_PRODUCT, PROJECT, TORCH_PYTHON, Variant, measure
from benchmarks.tables import publish
from benchmarks.worker import CHECKOUT
from dcgan.data.idx import TEST, TRAIN, MnistFile, idx_sha256, read_images, read_labels
from dcgan.data.parquet import normalise
from dcgan.evaluation.classifiers import BUNDLED, Classifier, load_weights
from dcgan.evaluation.evaluate import epoch_evaluator, prepare_reference
from dcgan.provenance import Configuration
from dcgan.recipe import CLASSIC, FAST, Precision, Recipe
from dcgan.training.checkpoint import load_checkpoint
from dcgan.training.loop import train
from dcgan.training.run_folder import RunFolder

ROUNDS = 3
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_bfloat16")


def main() -> None:
    """Measure, and publish the results; on a machine without a GPU, say so and exit with 1."""
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # several processes share the GPU
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        sys.exit("TensorFlow sees no GPU on this machine; expected one, its driver, and `make setup GPU=1`.")
    console = Console()
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    epochs = [_train_one_epoch(recipe, precision, console) for recipe in (CLASSIC, FAST) for precision in PRECISIONS]
    publish(
        "gpu",
        {
            "gpus": [detail.get("device_name", "unknown") for detail in details],
            "versions": {"tensorflow": tf.__version__, **_cuda_versions()},
            "recipes": {recipe.name: measure(variants(), recipe, console, ROUNDS) for recipe in (CLASSIC, FAST)},
            "epochs": epochs,
            "killed": _killed_and_resumed(console),
        },
    )


def variants() -> list[Variant]:
    """Return what is compared: this project on all GPUs, and plain ports on one, each in both precisions."""
    torch = sys.executable if find_spec("torch") else TORCH_PYTHON
    found = [
        Variant(PROJECT, "project", {}, arguments=("gpu",)),
        Variant(PROJECT + BFLOAT16, "project", {}, arguments=("gpu", "mixed_bfloat16")),
        Variant("Keras", "keras_port", {}),
        Variant("Keras" + BFLOAT16, "keras_port", {}, arguments=("mixed_bfloat16",)),
        Variant("PyTorch", "torch_port", {}, torch, ("cuda",)),
        Variant("PyTorch" + BFLOAT16, "torch_port", {}, torch, ("cuda", "bfloat16")),
        Variant(MATRIX_PRODUCT, "matrix_product", {}),
        Variant(MATRIX_PRODUCT + BFLOAT16, "matrix_product", {}, arguments=("bfloat16",)),
    ]
    return [variant for variant in found if Path(variant.python).exists()]


def _train_one_epoch(recipe: Recipe, precision: Precision, console: Console) -> dict[str, Any]:
    """Train an epoch on MNIST by the project's loop, and return its metrics."""
    changed = recipe.model_copy(update={"epochs": 1, "precision": precision})
    with console.status(f"An epoch of {recipe.name}, {precision}"):
        digits = read_images(_bundled(TRAIN.images))
        classifier = Classifier(load_weights(BUNDLED / "selection.npz"))
        test = normalise(read_images(_bundled(TEST.images))), read_labels(_bundled(TEST.labels))
        evaluate = epoch_evaluator(prepare_reference(classifier, *test))
        configuration = Configuration(recipe=changed, seed=0, dataset_digest=idx_sha256(digits))
        (report,) = train(configuration, normalise(digits), device="gpu", evaluate=evaluate)
    metrics = {"recipe": recipe.name, "precision": precision, **report.record.metrics}
    console.print(metrics)
    return metrics


def _killed_and_resumed(console: Console) -> dict[str, Any]:
    """Return how the weights of a run that was killed after an epoch, and resumed, differ from an undisturbed run's."""
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary, console.status("Killing and resuming a run"):
        undisturbed, killed, again = (Path(temporary) / name for name in ("undisturbed", "killed", "again"))
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, (undisturbed, again, killed), (None, None, 1)))
        resumed_from = len(RunFolder(killed).states())
        _run(killed)
        return {
            "resumed_from_epoch": resumed_from,
            "largest_difference": _largest_difference(undisturbed, killed),
            "largest_difference_between_undisturbed_runs": _largest_difference(undisturbed, again),
        }


def _run(folder: Path, kill_after: int | None = None) -> None:
    command = [sys.executable, "-m", "benchmarks.peers.saved_run", str(folder), "gpu"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if kill_after is not None and line.strip() == str(kill_after):
                process.kill()
        code = process.wait()
    if code != 0 and kill_after is None:
        raise subprocess.CalledProcessError(code, command)


def _largest_difference(one: Path, other: Path) -> float:
    arrays = [load_checkpoint(RunFolder(folder).states()[0]).arrays for folder in (one, other)]
    return max(float(np.abs(arrays[0][name] - arrays[1][name]).max()) for name in arrays[0])


def _bundled(file: MnistFile) -> Path:
    return CHECKOUT / "data" / "mnist" / f"{file.name}.gz"


def _cuda_versions() -> dict[str, str]:
    build = tf.sysconfig.get_build_info()
    return {name: str(build[f"{name}_version"]) for name in ("cuda", "cudnn") if f"{name}_version" in build}


if __name__ == "__main__":
    main()
