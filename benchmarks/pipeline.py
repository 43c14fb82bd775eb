"""How long the pipeline takes, stage by stage, as its user waits for it. Run it as `python -m benchmarks pipeline`.

Each training is a process of its own with an empty state folder, on the bundled MNIST.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.machine import write_results
from benchmarks.worker import CHECKOUT

EPOCHS = {"fast": 2, "classic": 4}
TIMES = 3
FLOW_BEGAN = re.compile(r"^(\d\d):(\d\d):(\d\d\.\d+) .* - Beginning flow run", re.MULTILINE)

READING = """
import time
from pathlib import Path
import flows
from tasks.settings import read_settings
from dcgan.dataset import load_split, read_manifest
folder = next(read_settings().prepared.iterdir())
manifest = read_manifest(folder)
began = time.perf_counter()
images, labels = load_split(folder, manifest, "train")
print(time.perf_counter() - began)
"""


def main() -> None:
    """Measure, print a table, and write benchmarks/results/pipeline.json."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="dcgan-bench-") as temporary, console.status("Training") as status:
        root = Path(temporary)
        smoke = [train("smoke", root / f"smoke-{number}") for number in range(TIMES)]
        status.update("Reading Parquet")
        reading = [_read_split(root / "smoke-0") for _ in range(TIMES)]
        epochs = {}
        for recipe, count in EPOCHS.items():
            status.update(f"Training {count} epochs of {recipe}")
            epochs[recipe] = train(recipe, root / recipe, "--epochs", str(count))
    figures = {
        "smoke_seconds": median(run["wall_seconds"] for run in smoke),
        "smoke_seconds_to_first_step": median(run["seconds_to_first_step"] for run in smoke),
        "starting_stages": _medians([starting_stages(run) for run in smoke]),
        "smoke_stages": _medians([run["seconds"] for run in smoke]),
        "download_and_prepare_seconds": median(run["seconds"]["download"] + run["seconds"]["prepare"] for run in smoke),
        "read_parquet_seconds": median(reading),
        "recipes": {recipe: _epoch_figures(run) for recipe, run in epochs.items()},
    }
    console.print(_table(figures))
    console.print(f"Written to {write_results('pipeline', figures)}")


def train(recipe: str, state: Path, *arguments: str, summary: Path | None = None) -> dict:
    """Run a whole pipeline and return its summary, with the command's own time and when its first epoch began."""
    summary = summary or state.with_suffix(".json")
    began = time.time()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "flows.train",
            "--recipe",
            recipe,
            "--source",
            "bundled",
            "--summary",
            summary,
            *arguments,
        ],
        cwd=CHECKOUT,
        env={**os.environ, "DCGAN_STATE": str(state)},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wall_seconds = time.time() - began
    result = json.loads(summary.read_text())
    checkpoint = state / "runs" / result["run_id"] / "states" / f"epoch-{result['epochs']:06d}" / "checkpoint.json"
    records = json.loads(checkpoint.read_text())["records"]
    first = records[0]
    return {
        **result,
        "wall_seconds": wall_seconds,
        "seconds_to_flow": flow_began(done.stdout, began),
        "seconds_to_first_step": first["finished_at"] - first["metrics"]["epoch_seconds"] - began,
        "records": records,
    }


def flow_began(log: str, began: float) -> float:
    """Return how many seconds after `began`, in Unix time, a command's flow run began, by its log's times of day."""
    hours, minutes, seconds = map(float, FLOW_BEGAN.search(log).groups())
    start = time.localtime(began)
    before = 3600 * start.tm_hour + 60 * start.tm_min + start.tm_sec + began % 1
    return (3600 * hours + 60 * minutes + seconds - before) % 86_400


def starting_stages(run: dict) -> dict[str, float]:
    """Return where the seconds go before the first step, and those of compiling it."""
    before, data = run["seconds_to_flow"], run["seconds"]["download"] + run["seconds"]["prepare"]
    return {
        "imports_and_prefect": before,
        "data": data,
        "mlflow_tensorflow_and_networks": run["seconds_to_first_step"] - before - data,
        "compiling": run["records"][0]["metrics"]["overhead_seconds"],
    }


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(row[name] for row in rows) for name in rows[0]}


def _read_split(state: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", READING],
        cwd=CHECKOUT,
        env={**os.environ, "DCGAN_STATE": str(state)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def _epoch_figures(run: dict) -> dict[str, float]:
    """Return the median figures of the epochs after the first, which begins everything.

    An epoch's overhead is its evaluation, and the recording of the one before: picture, state, MLflow.
    """
    epochs = [record["metrics"] for record in run["records"][1:]]
    names = ("images_per_second", "epoch_seconds", "overhead_seconds", "evaluation_seconds", "peak_memory_mb")
    steps = [each["epoch_seconds"] - each["overhead_seconds"] for each in epochs]
    recording = [each["overhead_seconds"] - each["evaluation_seconds"] for each in epochs]
    return {
        **{name: median(each[name] for each in epochs) for name in names},
        "recording_share_of_steps": median(part / whole for part, whole in zip(recording, steps, strict=True)),
        "evaluation_share_of_steps": median(
            each["evaluation_seconds"] / whole for each, whole in zip(epochs, steps, strict=True)
        ),
    }


def _table(figures: dict) -> Table:
    table = Table("what", "measured", title="The pipeline")
    table.add_row("smoke, whole command", f"{figures['smoke_seconds']:.1f} s")
    table.add_row("from the command to the first step", f"{figures['smoke_seconds_to_first_step']:.1f} s")
    for stage, seconds in figures["starting_stages"].items():
        table.add_row(f"starting, {stage.replace('_', ' ')}", f"{seconds:.2f} s")
    for stage, seconds in figures["smoke_stages"].items():
        table.add_row(f"smoke, {stage}", f"{seconds:.2f} s")
    table.add_row("bundled copy to Parquet", f"{figures['download_and_prepare_seconds']:.2f} s")
    table.add_row("Parquet to the training images", f"{figures['read_parquet_seconds']:.2f} s")
    for recipe, epoch in figures["recipes"].items():
        table.add_row(
            f"an epoch of {recipe}",
            f"{epoch['epoch_seconds']:.1f} s, {epoch['images_per_second']:,.0f} images/s, "
            f"recording {epoch['recording_share_of_steps']:.1%}, evaluation {epoch['evaluation_share_of_steps']:.1%}, "
            f"{epoch['peak_memory_mb']:,.0f} MB",
        )
    return table
