"""The figures of the README are those that the benchmarks wrote."""

import json
from pathlib import Path

import pytest

from dcgan.recipe import CLASSIC, FAST

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text()


def figures_of(benchmark: str) -> dict:
    """Return what a benchmark wrote; skip the test where it has not been run."""
    path = CHECKOUT / "benchmarks" / "results" / f"{benchmark}.json"
    if not path.exists():
        pytest.skip(f"python -m benchmarks {benchmark} has not been run")
    return json.loads(path.read_text())


def require_rows(rows: dict[str, str]) -> None:
    """Assert that the README's table has these rows; those that it lacks are shown as they should stand there."""
    assert [row for what, figure in rows.items() if (row := f"| {what} | {figure} |") not in README] == []


def test_readme_times_are_the_benchmarks():
    """Each time in the README's table is the one in the benchmark's file, rounded to seconds."""
    figures = figures_of("pipeline")
    machine = figures["machine"]
    assert f"On {machine['cores']} cores of an {machine['processor'].split(' @')[0]}," in " ".join(README.split())
    fast, classic = (figures["recipes"][name] for name in ("fast", "classic"))
    rows = {
        "`smoke`, the whole command": f"{figures['smoke_seconds']:.0f} s",
        "from a command to its first step": f"{figures['smoke_seconds_to_first_step']:.0f} s",
        f"an epoch of `fast` (it has {FAST.epochs})": f"{fast['epoch_seconds']:.0f} s",
        f"an epoch of `classic` (it has {CLASSIC.epochs})": f"{classic['epoch_seconds']:.0f} s",
    }
    recording, evaluation = classic["recording_share_of_steps"], classic["evaluation_share_of_steps"]
    rows["recording an epoch of `classic`, and evaluating it"] = f"{recording:.1%} and {evaluation:.1%} of its steps"
    start = figures["starting_stages"]
    rows["of which: Python and Prefect; the data; MLflow, TensorFlow and the networks"] = "; ".join(
        f"{start[stage]:.0f} s" for stage in ("imports_and_prefect", "data", "mlflow_tensorflow_and_networks")
    )
    rows["compiling the step, within the first epoch"] = f"{start['compiling']:.0f} s"
    require_rows(rows)


def test_readme_has_the_cost_of_much_data():
    """Speed and memory of a set that streams, and of many epochs, are those of the benchmark."""
    figures = figures_of("scale")
    epochs = figures["epochs_of_smoke"]
    speed, memory = figures["streamed_speed_over_resident"], figures["streamed_memory_over_resident_mb"]
    early, late = epochs["early_epoch_seconds"], epochs["late_epoch_seconds"]
    require_rows(
        {
            "`classic` on 600,000 images, beside 60,000": f"{speed:.0%} of the speed, {memory:+.0f} MB",
            "an epoch of `smoke`, the first five and the last five of 30": f"{early:.2f} s and {late:.2f} s",
        }
    )


def test_readme_has_the_time_of_an_animation():
    """The animation's seconds, and what they are compared with, are those of the benchmark."""
    figures = figures_of("rendering")
    seconds, speedup = figures["this_project_seconds"], figures["speedup"]
    figure = f"{seconds:.2f} s, {speedup:.0f} times as fast as by figures of matplotlib"
    require_rows({"the animation of 50 epochs": figure})


def test_readme_has_the_speed_beside_others():
    """Images per second of a training step, and how many times as fast this project is, are those of the benchmark."""
    figures = figures_of("step")
    rows = {}
    for recipe, measured in figures["recipes"].items():
        for name, variant in measured["variants"].items():
            speedup = f"{variant['speedup_of_this_project']:.2f}×"
            rows[f"{name} | `{recipe}`, {measured['batch_size']}"] = f"{variant['images_per_second']:.0f} | {speedup}"
    require_rows(rows)
