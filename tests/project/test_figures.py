"""The figures of the documents are those that the benchmarks wrote."""

import json
from pathlib import Path

import pytest

from dcgan.recipe import CLASSIC, FAST

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"
FIGURES = CHECKOUT / "docs" / "benchmarks.md"
ROLES = ("evaluator", "judge")


def figures_of(benchmark: str) -> dict:
    """Return what a benchmark wrote; skip the test where it has not been run."""
    path = CHECKOUT / "benchmarks" / "results" / f"{benchmark}.json"
    if not path.exists():
        pytest.skip(f"python -m benchmarks {benchmark} has not been run")
    return json.loads(path.read_text())


def require_rows(document: Path, rows: dict[str, str]) -> None:
    """Assert that a document's tables have these rows; those that it lacks are shown as they should stand there."""
    text = document.read_text()
    assert [row for what, figure in rows.items() if (row := f"| {what} | {figure} |") not in text] == []


@pytest.mark.parametrize("benchmark", ["step", "pipeline", "scale", "rendering", "quality"])
def test_figures_name_their_machine(benchmark):
    """Each benchmark's section begins with the machine that its file names."""
    machine = figures_of(benchmark)["machine"]
    sentence = f"[{benchmark}.json](../benchmarks/results/{benchmark}.json), {machine['cores']} cores of an "
    assert sentence + machine["processor"].split(" @")[0] in " ".join(FIGURES.read_text().split())


def test_readme_times_are_the_benchmarks():
    """Each time in the README's table is the one in the benchmark's file, rounded to seconds."""
    figures = figures_of("pipeline")
    machine = figures["machine"]
    assert f"On {machine['cores']} cores of an {machine['processor'].split(' @')[0]}," in " ".join(
        README.read_text().split()
    )
    fast, classic = (figures["recipes"][name] for name in ("fast", "classic"))
    rows = {
        "`smoke`, the whole command": f"{figures['smoke_seconds']:.0f} s",
        "from a command to its first step": f"{figures['smoke_seconds_to_first_step']:.0f} s",
        f"an epoch of `fast` (it has {FAST.epochs})": f"{fast['epoch_seconds']:.0f} s",
        f"an epoch of `classic` (it has {CLASSIC.epochs})": f"{classic['epoch_seconds']:.0f} s",
    }
    require_rows(README, rows)


def test_times_of_the_pipeline_are_the_benchmarks():
    """Where the time goes before the first step and beside the steps is what the benchmark found."""
    figures = figures_of("pipeline")
    start = figures["starting_stages"]
    rows = {
        "importing Python's packages, starting Prefect": f"{start['imports_and_prefect']:.1f} s",
        "fetching and preparing the data": f"{start['data']:.1f} s",
        "opening MLflow's store, importing TensorFlow, building the networks": (
            f"{start['mlflow_tensorflow_and_networks']:.1f} s"
        ),
        "compiling the step, within the first epoch": f"{start['compiling']:.1f} s",
        "reading Parquet into the training images": f"{figures['read_parquet_seconds']:.1f} s",
    }
    for name, epoch in figures["recipes"].items():
        recording, evaluation = epoch["recording_share_of_steps"], epoch["evaluation_share_of_steps"]
        rows[f"recording an epoch of `{name}`"] = f"{recording:.1%} of its steps"
        rows[f"evaluating an epoch of `{name}`"] = f"{evaluation:.1%} of its steps"
        rows[f"most memory of `{name}`"] = f"{epoch['peak_memory_mb']:,.0f} MB"
    require_rows(FIGURES, rows)


def test_cost_of_much_data_is_the_benchmarks():
    """Speed and memory of a set that streams, and of many epochs, are those of the benchmark."""
    figures = figures_of("scale")
    rows = {
        f"`classic` on {int(size):,} images": (
            f"{1e6 / row['images_per_second']:.0f} µs an image, {row['peak_memory_mb']:,.0f} MB"
        )
        for size, row in figures["sizes"].items()
    }
    epochs = figures["epochs_of_smoke"]
    speed, memory = figures["streamed_speed_over_resident"], figures["streamed_memory_over_resident_mb"]
    early, late = epochs["early_epoch_seconds"], epochs["late_epoch_seconds"]
    rows["600,000 images, beside 60,000"] = f"{speed:.1%} of the speed, {memory:+.0f} MB"
    rows["an epoch of `smoke`, the first five and the last five of 30"] = f"{early:.2f} s and {late:.2f} s"
    rows["memory that those epochs added"] = f"{epochs['memory_growth_mb']:+.1f} MB"
    require_rows(FIGURES, rows)


def test_time_of_an_animation_is_the_benchmarks():
    """The animation's seconds, and what they are compared with, are those of the benchmark."""
    figures = figures_of("rendering")
    seconds, speedup = figures["this_project_seconds"], figures["speedup"]
    figure = f"{seconds:.2f} s, {speedup:.0f} times as fast as by figures of matplotlib"
    require_rows(FIGURES, {"the animation of 50 epochs": figure})


def test_speed_beside_others_is_the_benchmarks():
    """Images per second of a training step, and how many times as fast this project is, are those of the benchmark."""
    figures = figures_of("step")
    rows = {}
    for recipe, measured in figures["recipes"].items():
        for name, variant in measured["variants"].items():
            speedup = f"{variant['speedup_of_this_project']:.2f}×"
            rows[f"{name} | `{recipe}`, {measured['batch_size']}"] = f"{variant['images_per_second']:.0f} | {speedup}"
    require_rows(FIGURES, rows)


def test_quality_is_the_benchmarks():
    """Time and every figure of each training, by both classifiers, are those of the benchmark."""
    figures = figures_of("quality")
    rows = {}
    for name, training in figures["trainings"].items():
        distances = [training[role]["generator"]["frechet_distance"] for role in ROLES]
        rows[f"`{training['recipe']}`, seed {training['seed']}, {training['epochs']} epochs"] = " | ".join(
            [
                f"{training['training_seconds'] / 60:.1f} min",
                *(f"{distance['value']:.2f} ± {distance['noise']:.2f}" for distance in distances),
            ]
        )
        if beside := figures["comparison"]["fast"].get(name):
            passed, share = beside["seconds_to_pass"], beside["share_of_port"]
            rows[f"seed {training['seed']}"] = " | ".join(
                [f"{passed:.0f} s", f"1/{1 / share:.0f}"]
                + [f"{beside[f'{role}_over_{other}']:.2f}" for other in ("classic", "floor") for role in ROLES]
            )
    require_rows(FIGURES, rows)
