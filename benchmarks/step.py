"""Images per second of this project's training step, beside plain ports of it and the machine's own speed.

All variants run side by side in processes of their own and take turns, so that other load on the machine meets all of
them. This project's speed-up over a variant is the median, over the rounds, of the ratio of their turns in a round. Run
it as `python -m benchmarks step`.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.tables import publish
from benchmarks.worker import CHECKOUT, Worker
from dcgan.recipe import CLASSIC, FAST, PENALTY_INTERVAL, Recipe

ROUNDS = 9
PROJECT = "this project"
MATRIX_PRODUCT = "matrix product"
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
    Variant(PROJECT, "project", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
    Variant("Keras, as installed", "keras_port", {}),
    Variant("Keras, oneDNN on", "keras_port", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
    Variant("Keras, oneDNN off", "keras_port", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    Variant("PyTorch", "torch_port", {}, TORCH_PYTHON),
    Variant(MATRIX_PRODUCT, "matrix_product", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
)


def main() -> None:
    """Measure all variants at both recipes' batch sizes, and publish the results."""
    console = Console()
    variants = [variant for variant in VARIANTS if Path(variant.python).exists()]
    for missing in (variant for variant in VARIANTS if variant not in variants):
        console.print(f"{missing.name} is left out: {missing.python} does not exist; make bench installs it.")
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
    peak = MATRIX_GFLOP / median(workers.pop(MATRIX_PRODUCT).turns)
    ours = workers[PROJECT].turns
    return {
        "batch_size": recipe.batch_size,
        "nominal_gflop_per_step": nominal_gflop(recipe),
        "matrix_product_gflops": round(peak, 1),
        "variants": {
            name: {**summarize(worker.turns, ours, recipe, peak), "versions": worker.versions}
            for name, worker in workers.items()
        },
    }


def _worker(variant: Variant, recipe: Recipe) -> Worker:
    arguments = [recipe.name, *variant.arguments]
    return Worker(variant.python, variant.module, recipe.batch_size, variant.environment, arguments)


def summarize(turns: Sequence[float], ours: Sequence[float], recipe: Recipe, peak_gflops: float) -> dict[str, object]:
    """Return the results of a variant.

    Args:
        turns: Seconds per step of each of its turns.
        ours: Seconds per step of this project in the same rounds.
        recipe: What was trained.
        peak_gflops: Speed of the machine's matrix product.
    """
    seconds = median(turns)
    return {
        "images_per_second": round(recipe.batch_size / seconds, 1),
        "milliseconds_per_step": round(1000 * seconds, 1),
        "milliseconds_per_step_range": [round(1000 * limit(turns), 1) for limit in (min, max)],
        "nominal_fraction_of_matrix_product": round(nominal_gflop(recipe) / seconds / peak_gflops, 3),
        "speedup_of_this_project": round(median(t / o for t, o in zip(turns, ours, strict=True)), 2),
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
