"""Images per second of this project's training step, beside plain ports of it and the machine's own speed.

All variants run side by side in processes of their own and take turns, so that other load on the machine meets all of
them. This project's speed-up over a variant is the median, over the rounds, of the ratio of their turns in a round. Run
it as `python -m benchmarks step`.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.tables import publish
from benchmarks.worker import CHECKOUT, Worker
from dcgan.recipe import CLASSIC, FAST, PENALTY_INTERVAL, Recipe
from dcgan.training.device import multiplies_bfloat16

ROUNDS = 9
PROJECT = "this project"
MATRIX_PRODUCT = "matrix product"
BFLOAT16 = ", bfloat16"  # ends the name of a variant in that precision
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
MATRIX_GFLOP = 2 * 4096**3 / 1e9  # of benchmarks/peers/matrix_product.py
TORCH_PYTHON = CHECKOUT / ".venv-torch" / "bin" / "python"


@dataclass(frozen=True)
class Variant:
    """One way to train: its name, its module, its environment variables, its interpreter and its arguments."""

    name: str
    module: str
    environment: dict[str, str]
    python: Path | str = sys.executable
    arguments: tuple[str, ...] = ()


VARIANTS = (
    Variant(PROJECT, "project", ONEDNN),
    Variant(PROJECT + BFLOAT16, "project", ONEDNN, arguments=("cpu", "mixed_bfloat16")),
    Variant("Keras, as installed", "keras_port", {}),
    Variant("Keras, oneDNN on", "keras_port", ONEDNN),
    Variant("Keras, oneDNN off", "keras_port", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    Variant("Keras" + BFLOAT16, "keras_port", ONEDNN, arguments=("mixed_bfloat16",)),
    Variant("PyTorch", "torch_port", {}, TORCH_PYTHON),
    Variant("PyTorch" + BFLOAT16, "torch_port", {}, TORCH_PYTHON, ("cpu", "bfloat16")),
    Variant(MATRIX_PRODUCT, "matrix_product", ONEDNN),
    Variant(MATRIX_PRODUCT + BFLOAT16, "matrix_product", ONEDNN, arguments=("bfloat16",)),
)


def main() -> None:
    """Measure all variants at both recipes' batch sizes, and publish the results."""
    console = Console()
    variants = [variant for variant in VARIANTS if Path(variant.python).exists()]
    for missing in (variant for variant in VARIANTS if variant not in variants):
        console.print(f"{missing.name} is left out: {missing.python} does not exist; make bench installs it.")
    if not multiplies_bfloat16():
        variants = [variant for variant in variants if not variant.name.endswith(BFLOAT16)]
        console.print("bfloat16 is left out: this processor has no instructions for it.")
    publish("step", {"recipes": {recipe.name: measure(variants, recipe, console) for recipe in (CLASSIC, FAST)}})


def measure(variants: Sequence[Variant], recipe: Recipe, console: Console, rounds: int = ROUNDS) -> dict[str, object]:
    """Return the results of each variant for one recipe, and the speed of the machine's own matrix product."""
    workers = {variant.name: _worker(variant, recipe) for variant in variants}
    with ExitStack() as stack:
        for name, worker in workers.items():
            with console.status(f"Starting {name}, {recipe.name}"):
                stack.enter_context(worker)
        for number in range(rounds):
            with console.status(f"Round {number + 1} of {rounds}, {recipe.name}"):
                for worker in workers.values():
                    worker.take_turn()
    peaks = {
        suffix: MATRIX_GFLOP / median(workers.pop(MATRIX_PRODUCT + suffix).turns)
        for suffix in ("", BFLOAT16)
        if MATRIX_PRODUCT + suffix in workers
    }
    ours = {suffix: workers[PROJECT + suffix].turns for suffix in ("", BFLOAT16) if PROJECT + suffix in workers}
    return {
        "batch_size": recipe.batch_size,
        "nominal_gflop_per_step": nominal_gflop(recipe),
        "matrix_product_gflops": {_precision(suffix): round(peak, 1) for suffix, peak in peaks.items()},
        "variants": {
            name: {
                **summarize(worker.turns, ours, recipe, peaks.get(BFLOAT16 if name.endswith(BFLOAT16) else "")),
                "versions": worker.versions,
            }
            for name, worker in workers.items()
        },
    }


def _precision(suffix: str) -> str:
    return "bfloat16" if suffix else "float32"


def _worker(variant: Variant, recipe: Recipe) -> Worker:
    arguments = [recipe.name, *variant.arguments]
    return Worker(variant.python, variant.module, recipe.batch_size, variant.environment, arguments)


def summarize(
    turns: Sequence[float], ours: Mapping[str, Sequence[float]], recipe: Recipe, peak_gflops: float | None
) -> dict[str, object]:
    """Return the results of a variant.

    Args:
        turns: Seconds per step of each of its turns.
        ours: Seconds per step of this project in the same rounds, in float32 and, under BFLOAT16, in bfloat16.
        recipe: What was trained.
        peak_gflops: Speed of the machine's matrix product in the variant's precision; None where it was not measured.
    """
    seconds = median(turns)
    return {
        "images_per_second": round(recipe.batch_size / seconds, 1),
        "milliseconds_per_step": round(1000 * seconds, 1),
        "milliseconds_per_step_range": [round(1000 * limit(turns), 1) for limit in (min, max)],
        "nominal_fraction_of_matrix_product": peak_gflops and round(nominal_gflop(recipe) / seconds / peak_gflops, 3),
        "speedup_of_this_project": {
            _precision(suffix): round(median(t / o for t, o in zip(turns, own, strict=True)), 2)
            for suffix, own in ours.items()
        },
    }


def nominal_gflop(recipe: Recipe) -> float:
    """Return the arithmetic of a step as the reference implementation writes it, in 10⁹ additions and multiplications.

    The forward pass of a layer with weights, the gradient of its weights and that of its input cost the same. The
    generator runs once; the discriminator forward on two batches, backward to the weights on two, and backward to the
    images on one. No first layer needs its input's gradient, except for the generated images. The gradient penalty
    runs the discriminator forward and backward to the images of one batch, and backward through both.
    """
    project, refine, up, out = 100 * 12544, 49 * 25 * 256 * 128, 49 * 25 * 128 * 64, 196 * 25 * 64
    maps = recipe.discriminator_maps
    features = 49 * 2 * maps
    generator = 2 * project + 3 * (refine + up + out)
    units = recipe.hidden_units
    first, second = 196 * 25 * maps, features * 25 * maps
    head = features * units + units if units else features
    discriminator = 2 * (2 * first + 3 * (second + head)) + first + second + head
    if recipe.r1_gamma:
        discriminator += round(6 * (first + second + head) / PENALTY_INTERVAL)
    return round(2 * recipe.batch_size * (generator + discriminator) / 1e9, 2)
