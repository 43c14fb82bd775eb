"""Images per second of this project's training step against the plain ports, and against the machine itself.

All variants live side by side in processes of their own and take turns, so that whatever else the machine does meets
all of them. This project's speed-up over a variant is the median, over the rounds, of the ratio of their two turns in a
round. Run it as `python -m benchmarks step`.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, write_results
from benchmarks.worker import CHECKOUT, Worker
from dcgan.recipe import CLASSIC, FAST, PENALTY_INTERVAL, Recipe

ROUNDS = 9
PROJECT = "this project"
MATRIX_PRODUCT = "matrix product"
MATRIX_GFLOP = 2 * 4096**3 / 1e9  # of benchmarks/peers/matrix_product.py
TORCH_PYTHON = CHECKOUT / ".venv-torch" / "bin" / "python"


@dataclass(frozen=True)
class Variant:
    """One way to train: its name, module, interpreter and environment variables."""

    name: str
    module: str
    environment: dict[str, str]
    python: Path | str = sys.executable


VARIANTS = (
    Variant(PROJECT, "project", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
    Variant("Keras, as installed", "keras_port", {}),
    Variant("Keras, oneDNN on", "keras_port", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
    Variant("Keras, oneDNN off", "keras_port", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    Variant("PyTorch", "torch_port", {}, TORCH_PYTHON),
    Variant(MATRIX_PRODUCT, "matrix_product", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
)


def main() -> None:
    """Measure all variants at both recipes' batch sizes, print a table, and write benchmarks/results/step.json."""
    console = Console()
    variants = [variant for variant in VARIANTS if Path(variant.python).exists()]
    for missing in (variant for variant in VARIANTS if variant not in variants):
        console.print(f"{missing.name} is left out: {missing.python} is not there, and make bench installs it.")
    recipes = {}
    for recipe in (CLASSIC, FAST):
        figures = measure(variants, recipe, console)
        console.print(table(f"{recipe.name}: batches of {recipe.batch_size} on {machine()['processor']}", figures))
        nominal = {"batch_size": recipe.batch_size, "nominal_gflop_per_step": nominal_gflop(recipe)}
        recipes[recipe.name] = {**nominal, **figures}
    console.print(f"Written to {write_results('step', {'recipes': recipes})}")


def measure(variants: list[Variant], recipe: Recipe, console: Console) -> dict[str, object]:
    """Return each variant's figures for one recipe, and the speed of the machine's own matrix product."""
    with ExitStack() as stack:
        workers = {}
        for variant in variants:
            with console.status(f"Starting {variant.name}, {recipe.name}"):
                arguments = (recipe.batch_size, variant.environment, [recipe.name])
                worker = Worker(variant.python, variant.module, *arguments)
                workers[variant.name] = stack.enter_context(worker)
        for number in range(ROUNDS):
            with console.status(f"Round {number + 1} of {ROUNDS}, {recipe.name}"):
                for worker in workers.values():
                    worker.take_turn()
    peak = MATRIX_GFLOP / median(workers.pop(MATRIX_PRODUCT).turns)
    ours = workers[PROJECT].turns
    return {
        "matrix_product_gflops": round(peak, 1),
        "variants": {name: _figures(worker, recipe, peak, ours=ours) for name, worker in workers.items()},
    }


def _figures(worker: Worker, recipe: Recipe, peak: float, ours: list[float]) -> dict[str, object]:
    seconds = median(worker.turns)
    return {
        "images_per_second": round(recipe.batch_size / seconds, 1),
        "milliseconds_per_step": round(1000 * seconds, 1),
        "milliseconds_per_step_range": [round(1000 * limit(worker.turns), 1) for limit in (min, max)],
        "nominal_share_of_matrix_product": round(nominal_gflop(recipe) / seconds / peak, 3),
        "speedup_of_this_project": round(median(t / o for t, o in zip(worker.turns, ours, strict=True)), 2),
        "versions": worker.versions,
    }


def nominal_gflop(recipe: Recipe) -> float:
    """Return the arithmetic of a step as the seed writes it, in 10⁹ additions and multiplications.

    The forward pass of a layer with weights, the gradient of its weights and that of its input cost the same. The
    generator runs once; the discriminator forward on two batches, backward to the weights on two, and backward to the
    images on one. No first layer needs its input's gradient, but that of the generated images. The gradient penalty
    runs the discriminator forward and backward to the images of one batch, and backward through both.
    """
    project, refine, up, out = 100 * 12544, 49 * 25 * 256 * 128, 49 * 25 * 128 * 64, 196 * 25 * 64
    generator = 2 * project + 3 * (refine + up + out)
    units = recipe.hidden_units
    first, second, head = out, up, 6272 * units + units if units else 6272
    discriminator = 2 * (2 * first + 3 * (second + head)) + first + second + head
    if recipe.gradient_penalty:
        discriminator += round(6 * (first + second + head) / PENALTY_INTERVAL)
    return round(2 * recipe.batch_size * (generator + discriminator) / 1e9, 2)


def table(title: str, figures: dict) -> Table:
    """Return the figures as a table."""
    peak = figures["matrix_product_gflops"]
    caption = f"of peak: the arithmetic of a plain step, against this machine's float32 matrix product, {peak} GFLOP/s"
    result = Table(title=title, caption=caption)
    result.add_column("", no_wrap=True)
    for heading in ("images/s", "ms/step", "range", "of peak", "speed-up"):
        result.add_column(heading, justify="right", no_wrap=True)
    for name, row in figures["variants"].items():
        low, high = row["milliseconds_per_step_range"]
        result.add_row(
            name,
            f"{row['images_per_second']:.0f}",
            f"{row['milliseconds_per_step']:.0f}",
            f"{low:.0f}–{high:.0f}",
            f"{row['nominal_share_of_matrix_product']:.0%}",
            f"{row['speedup_of_this_project']:.2f}×",
        )
    return result


if __name__ == "__main__":
    main()
